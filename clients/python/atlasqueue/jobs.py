"""Jobs as the SDK shows them: plain dataclasses with Python's own times and bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from atlasqueue.v1 import job_pb2

Filled = TypeVar("Filled", bound=Message)
Named = TypeVar("Named", bound=IntEnum)


class JobState(IntEnum):
    """Where a job stands. SUCCEEDED and CANCELLED are final; UNSPECIFIED in a filter: any state.

    UNSPECIFIED of a job: a state that only a newer server knows; so with the other enumerations.
    """

    UNSPECIFIED = job_pb2.JOB_STATE_UNSPECIFIED
    SCHEDULED = job_pb2.JOB_STATE_SCHEDULED
    READY = job_pb2.JOB_STATE_READY
    LEASED = job_pb2.JOB_STATE_LEASED
    SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED
    CANCELLED = job_pb2.JOB_STATE_CANCELLED
    DEAD = job_pb2.JOB_STATE_DEAD


class DeadLetterReason(IntEnum):
    """Why a job became a dead letter. UNSPECIFIED: it is none; in a filter: any reason."""

    UNSPECIFIED = job_pb2.DEAD_LETTER_REASON_UNSPECIFIED
    ATTEMPTS_SPENT = job_pb2.DEAD_LETTER_REASON_ATTEMPTS_SPENT
    REJECTED = job_pb2.DEAD_LETTER_REASON_REJECTED
    CRASH_LOOP = job_pb2.DEAD_LETTER_REASON_CRASH_LOOP
    DEADLINE = job_pb2.DEAD_LETTER_REASON_DEADLINE
    UNKNOWN_KIND = job_pb2.DEAD_LETTER_REASON_UNKNOWN_KIND
    BODY_LOST = job_pb2.DEAD_LETTER_REASON_BODY_LOST


class FailureCause(IntEnum):
    """Why a lease ended without success."""

    UNSPECIFIED = job_pb2.FAILURE_CAUSE_UNSPECIFIED
    FAILED = job_pb2.FAILURE_CAUSE_FAILED
    REJECTED = job_pb2.FAILURE_CAUSE_REJECTED
    EXPIRED = job_pb2.FAILURE_CAUSE_EXPIRED
    DEADLINE = job_pb2.FAILURE_CAUSE_DEADLINE
    UNKNOWN_KIND = job_pb2.FAILURE_CAUSE_UNKNOWN_KIND
    BODY_LOST = job_pb2.FAILURE_CAUSE_BODY_LOST


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How failures are retried; what is None comes from the queue, then from the default.

    The delay before the retry after failure n is drawn evenly from 0 to
    min(max_backoff, initial_backoff × multiplier^(n − 1)).

    Attributes:
        max_attempts: how many attempts may fail before the job becomes a dead letter, 1 to 1000; default 20.
        initial_backoff: bound of the first delay, 0 s to 1 h; default 1 s.
        multiplier: growth of the bound, 1 to 10; default 2.
        max_backoff: bound of every delay, 0 s to 7 days; default 1 h.
    """

    max_attempts: int | None = None
    initial_backoff: timedelta | None = None
    multiplier: float | None = None
    max_backoff: timedelta | None = None


# Not frozen: they are made by the thousand, and that costs a frozen one five times as much.
@dataclass(slots=True)
class NewJob:
    """A job to enqueue. What is None has the server's default.

    Attributes:
        queue: a name; the queue comes into being on first use.
        kind: the name under which workers register the handler.
        payload: opaque bytes for the handler, at most 1 MiB.
        job_id: a UUID; made when the job is sent if it is None. The same id with the same body is one job.
        headers: text beside the payload, at most 32 entries and 8 KiB in all.
        priority: 1 (most urgent) to 5; default 3.
        run_at: not to run before, with a time zone, at most 10 years ahead; default: now.
        deadline: the longest that one run may last, 1 s to 7 days; default: none.
        retry_policy: overrides the queue's, field by field.

    A name has 1 to 128 letters, digits, dots, dashes and underscores, and begins with a letter or digit.
    """

    queue: str
    kind: str
    payload: bytes = b""
    job_id: str | None = None
    headers: Mapping[str, str] | None = None
    priority: int | None = None
    run_at: datetime | None = None
    deadline: timedelta | None = None
    retry_policy: RetryPolicy | None = None


@dataclass(slots=True)
class CancelledJobs:
    """What cancel_many did, or with dry_run would have done.

    Attributes:
        cancelled: the ids of jobs that were scheduled or ready.
        requested: the ids of leased jobs whose workers are asked to stop.
    """

    cancelled: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Failure:
    """A lease that did not end in success: a failed attempt, a crash, or a kind that its worker does not know.

    Attributes:
        fence: of the lease that ended so.
        attempt: failed attempts until then, this one included.
        cause: how it ended.
        type: the class of the error, as the worker named it.
        message: what happened.
        stack: where, if the worker told.
        failed_at: when, by the database's clock.
    """

    fence: int
    attempt: int
    cause: FailureCause
    type: str
    message: str
    stack: str
    failed_at: datetime


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the server knows it. `list` leaves payload, result, checkpoint and failures empty.

    Attributes:
        queue, job_id, kind, payload, headers, priority, deadline, retry_policy: as enqueued.
        state: where it stands.
        attempt: failed attempts; starts again at redrive.
        crashes: leases lost without an answer; starts again at redrive.
        deliveries: leases ever granted.
        fence: of the last lease; 0 before the first.
        created_at: when it was enqueued.
        run_at: of a scheduled job: when it may run; otherwise as enqueued.
        finished_at: of a succeeded or cancelled job: since when it is.
        died_at, dead_letter_reason: of a dead letter: since when it is one, and why.
        leased_at, session_id, cancel_requested: of a leased job: since when it is, by which session, and
            whether its worker was asked to stop.
        result: of a succeeded job: what the handler returned, at most 256 KiB.
        percent, note: the newest progress that a heartbeat brought; None without.
        checkpoint: the newest checkpoint that a heartbeat brought.
        failures: the leases that did not end in success, oldest first; the newest 100.
    """

    queue: str
    job_id: str
    kind: str
    state: JobState
    payload: bytes
    headers: dict[str, str]
    priority: int
    attempt: int
    crashes: int
    deliveries: int
    fence: int
    created_at: datetime
    run_at: datetime | None = None
    deadline: timedelta | None = None
    retry_policy: RetryPolicy | None = None
    finished_at: datetime | None = None
    died_at: datetime | None = None
    dead_letter_reason: DeadLetterReason = DeadLetterReason.UNSPECIFIED
    leased_at: datetime | None = None
    session_id: int = 0
    cancel_requested: bool = False
    result: bytes = b""
    percent: int | None = None
    note: str | None = None
    checkpoint: bytes = b""
    failures: list[Failure] = field(default_factory=list)

    def json(self) -> Any:
        """The result (not the payload), read as JSON. Raises ValueError when it is none."""
        return json.loads(self.result)

    @property
    def settled(self) -> bool:
        """Nothing moves the job further by itself."""
        return self.state in (JobState.SUCCEEDED, JobState.CANCELLED, JobState.DEAD)


def to_timestamp(time: datetime) -> Timestamp:
    """A time on the wire. Raises ValueError for a time without a zone, which could mean any."""
    if not isinstance(time, datetime):
        raise TypeError(f"a time must be a datetime with a time zone, not {type(time).__name__}")
    if time.tzinfo is None:
        raise ValueError("a datetime needs a time zone: datetime.now(UTC), say")
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def to_duration(duration: timedelta) -> Duration:
    """A duration on the wire."""
    message = Duration()
    message.FromTimedelta(duration)
    return message


def filled(of: type[Filled], /, **fields: Any) -> Filled:
    """A message of a caller's values.

    Raises TypeError or ValueError with the name of a field that cannot hold its value; bounds are
    judged by the server.
    """
    try:
        return of(**fields)
    except (TypeError, ValueError):
        for name, value in fields.items():
            _refuse_misfit(of, name, value)
        raise


def _refuse_misfit(of: type[Message], name: str, value: Any) -> None:
    try:
        of(**{name: value})
    except TypeError as error:
        raise TypeError(f"{name} cannot be of type {type(value).__name__}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{name} cannot be {value!r:.100}: {error}") from error


def _time(message: Any, name: str) -> datetime | None:
    return getattr(message, name).ToDatetime(UTC) if message.HasField(name) else None


def _duration(message: Any, name: str) -> timedelta | None:
    return getattr(message, name).ToTimedelta() if message.HasField(name) else None


def known(of: type[Named], value: int) -> Named:
    """The name of a number from the wire: UNSPECIFIED for one that this SDK does not know yet."""
    try:
        return of(value)
    except ValueError:
        return of(0)


def retry_policy_to_proto(policy: RetryPolicy) -> job_pb2.RetryPolicy:
    """A policy on the wire."""
    message = filled(
        job_pb2.RetryPolicy, max_attempts=policy.max_attempts, multiplier=policy.multiplier
    )
    if policy.initial_backoff is not None:
        message.initial_backoff.CopyFrom(to_duration(policy.initial_backoff))
    if policy.max_backoff is not None:
        message.max_backoff.CopyFrom(to_duration(policy.max_backoff))
    return message


def retry_policy_from_proto(message: job_pb2.RetryPolicy) -> RetryPolicy:
    """A policy from the wire."""
    return RetryPolicy(
        message.max_attempts if message.HasField("max_attempts") else None,
        _duration(message, "initial_backoff"),
        message.multiplier if message.HasField("multiplier") else None,
        _duration(message, "max_backoff"),
    )


def new_job_to_proto(job: NewJob, job_id: str) -> job_pb2.NewJob:
    """A job to enqueue, on the wire."""
    message = filled(
        job_pb2.NewJob,
        queue=job.queue,
        job_id=job_id,
        kind=job.kind,
        payload=job.payload,
        headers=job.headers,
        priority=job.priority,
    )
    if job.run_at is not None:
        message.run_at.CopyFrom(to_timestamp(job.run_at))
    if job.deadline is not None:
        message.deadline.CopyFrom(to_duration(job.deadline))
    if job.retry_policy is not None:
        message.retry_policy.CopyFrom(retry_policy_to_proto(job.retry_policy))
    return message


def job_from_proto(message: job_pb2.Job) -> Job:
    """A job from the wire."""
    has_progress = message.HasField("progress")
    return Job(
        queue=message.queue,
        job_id=message.job_id,
        kind=message.kind,
        state=known(JobState, message.state),
        payload=message.payload,
        headers=dict(message.headers),
        priority=message.priority,
        attempt=message.attempt,
        crashes=message.crashes,
        deliveries=message.deliveries,
        fence=message.fence,
        created_at=message.created_at.ToDatetime(UTC),
        run_at=_time(message, "run_at"),
        deadline=_duration(message, "deadline"),
        retry_policy=retry_policy_from_proto(message.retry_policy)
        if message.HasField("retry_policy")
        else None,
        finished_at=_time(message, "finished_at"),
        died_at=_time(message, "died_at"),
        dead_letter_reason=known(DeadLetterReason, message.dead_letter_reason),
        leased_at=_time(message, "leased_at"),
        session_id=message.session_id,
        cancel_requested=message.cancel_requested,
        result=message.result,
        percent=message.progress.percent if has_progress else None,
        note=message.progress.note if has_progress else None,
        checkpoint=message.checkpoint,
        failures=[_failure(failure) for failure in message.failures],
    )


def _failure(message: job_pb2.Failure) -> Failure:
    return Failure(
        message.fence,
        message.attempt,
        known(FailureCause, message.cause),
        message.error.type,
        message.error.message,
        message.error.stack,
        message.failed_at.ToDatetime(UTC),
    )
