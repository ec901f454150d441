"""The nouns that travel between the floors: a job to enqueue, an outcome to store, what came of it.

Those that come by the thousand are tuples, which cost a fifth of a frozen dataclass to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import NamedTuple, overload

from atlasqueue_server.model.retry import NO_POLICY, RetryPolicy
from atlasqueue_server.model.states import State

# Of an id in binary form.
JOB_ID_BYTES = 16


def ids_within(job_ids: bytes, start: int, stop: int) -> bytes:
    """Those of a column of ids from position `start` to before `stop`."""
    return job_ids[start * JOB_ID_BYTES : stop * JOB_ID_BYTES]


def run_of(cut: slice, length: int) -> tuple[int, int]:
    """Where a run of a column begins and ends. Raises ValueError for what is no run."""
    start, stop, step = cut.indices(length)
    if step != 1:
        raise ValueError("only a run can be cut out of a column")
    return start, stop


def id_text(id_bytes: bytes) -> str:
    """An id in canonical text form; uuid.UUID would take twice as long."""
    digits = id_bytes.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


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


class UniformJobs(Sequence[NewJob]):
    """Validated jobs that differ in id and payload only, kept in columns: thousands cost no object each.

    Each of them is a NewJob for who asks for it.
    """

    __slots__ = ("job_ids", "payloads", "shared")

    def __init__(self, shared: NewJob, job_ids: bytes, payloads: Sequence[bytes]) -> None:
        """`job_ids`: JOB_ID_BYTES for each payload; of `shared` id and payload mean nothing."""
        self.shared = shared
        self.job_ids = job_ids
        self.payloads = payloads

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, at: int) -> NewJob: ...
    @overload
    def __getitem__(self, at: slice) -> UniformJobs: ...
    def __getitem__(self, at: int | slice) -> NewJob | UniformJobs:
        if isinstance(at, int):
            at = range(len(self))[at]
            job_id = id_text(ids_within(self.job_ids, at, at + 1))
            return self.shared._replace(job_id=job_id, payload=self.payloads[at])
        start, stop = run_of(at, len(self))
        return UniformJobs(
            self.shared, ids_within(self.job_ids, start, stop), self.payloads[start:stop]
        )


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


class CompletedJobs(Sequence[Outcome]):
    """Validated completes without a result, of one queue, in columns. Each is an Outcome for who asks for it."""

    __slots__ = ("fences", "job_ids", "queue")

    def __init__(self, queue: str, job_ids: bytes, fences: Sequence[int]) -> None:
        """`job_ids`: JOB_ID_BYTES for each fence."""
        self.queue = queue
        self.job_ids = job_ids
        self.fences = fences

    def __len__(self) -> int:
        return len(self.fences)

    @overload
    def __getitem__(self, at: int) -> Outcome: ...
    @overload
    def __getitem__(self, at: slice) -> CompletedJobs: ...
    def __getitem__(self, at: int | slice) -> Outcome | CompletedJobs:
        if isinstance(at, int):
            at = range(len(self))[at]
            job_id = id_text(ids_within(self.job_ids, at, at + 1))
            return Outcome(self.queue, job_id, self.fences[at], OutcomeKind.COMPLETE)
        start, stop = run_of(at, len(self))
        return CompletedJobs(
            self.queue, ids_within(self.job_ids, start, stop), self.fences[start:stop]
        )

    @staticmethod
    def joined(parts: Sequence[CompletedJobs]) -> CompletedJobs:
        """All of these, which are of one queue."""
        return CompletedJobs(
            parts[0].queue,
            b"".join([part.job_ids for part in parts]),
            list(chain.from_iterable([part.fences for part in parts])),
        )


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
