"""The nouns that travel between the floors: a job to enqueue, an outcome to store, what came of it.

Those that come by the thousand are tuples, which cost a fifth of a frozen dataclass to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from atlasqueue_server.model.retry import NO_POLICY, RetryPolicy
from atlasqueue_server.model.states import State


class NewJob(NamedTuple):
    """A validated job to store. `headers_json` is canonical JSON or None; times are UTC."""

    queue: str
    job_id: str
    kind: str
    payload: bytes
    priority: int
    headers_json: str | None = None
    run_at: datetime | None = None
    deadline_ms: int | None = None
    policy: RetryPolicy = NO_POLICY


class Enqueued(StrEnum):
    """What became of an enqueue: stored (now or by an earlier call), or the id has another body."""

    STORED = "stored"
    CONFLICT = "conflict"


class OutcomeKind(StrEnum):
    """What a worker may say of a lease; the value is the code that classify_reports knows."""

    COMPLETE = "s"
    FAIL = "f"
    REJECT = "r"
    SNOOZE = "z"
    RELEASE = "l"
    CANCEL = "c"
    UNKNOWN_KIND = "k"


@dataclass(frozen=True, slots=True)
class JobError:
    """What went wrong, as the worker tells it."""

    type: str | None = None
    message: str | None = None
    stack: str | None = None


NO_ERROR = JobError()


class Outcome(NamedTuple):
    """A validated outcome under a fence. `delay_ms`: snooze delay, or fail's retry_after if given."""

    queue: str
    job_id: str
    fence: int
    kind: OutcomeKind
    result: bytes | None = None
    error: JobError = NO_ERROR
    delay_ms: int | None = None


class ReportStatus(StrEnum):
    """What became of a reported outcome."""

    APPLIED = "applied"
    ALREADY_APPLIED = "already_applied"
    STALE = "stale"
    NOT_FOUND = "not_found"


class Reported(NamedTuple):
    """The answer to one outcome; `state` is where the job stands by it, if it was applied."""

    status: ReportStatus
    state: State | None = None


class HeldJob(NamedTuple):
    """A job that a worker says it holds; None leaves progress or checkpoint as it is."""

    queue: str
    job_id: str
    fence: int
    percent: int | None = None
    note: str | None = None
    checkpoint: bytes | None = None


class LeaseName(NamedTuple):
    """A job, named by one lease of it."""

    queue: str
    job_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How a queue treats its jobs; None = the default. Milliseconds."""

    retry: RetryPolicy = NO_POLICY
    visibility_timeout_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as stored."""

    name: str
    paused: bool
    policy: QueuePolicy
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Depth:
    """Jobs of a queue by state."""

    scheduled: int = 0
    ready: int = 0
    leased: int = 0
    dead: int = 0
    succeeded: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters; None = any. `reason` is the stored code."""

    kind: str | None = None
    reason: str | None = None
    died_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs of a queue; None = any."""

    state: State | None = None
    kind: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A lease that did not end in success. `cause` is the stored code."""

    fence: int
    attempt: int
    cause: str
    error: JobError
    failed_at: datetime


@dataclass(slots=True)
class Job:
    """A job as read, in one snapshot."""

    queue: str
    job_id: str
    kind: str
    payload: bytes
    headers_json: str | None
    priority: int
    run_at: datetime | None
    deadline_ms: int | None
    policy: RetryPolicy
    state: State | None
    attempt: int
    crashes: int
    deliveries: int
    fence: int
    created_at: datetime
    finished_at: datetime | None
    died_at: datetime | None
    dead_letter_reason: str | None
    leased_at: datetime | None
    session_id: int | None
    cancel_requested: bool
    result: bytes | None
    percent: int | None
    note: str | None
    checkpoint: bytes | None
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Session:
    """A session as opened; its visibility timeout in ms."""

    session_id: int
    epoch: int
    visibility_timeout_ms: int
