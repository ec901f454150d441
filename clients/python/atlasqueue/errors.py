"""Every error of the SDK. Built from the machine-readable reason, never from the text.

AtlasQueueError
├── InvalidField            a field breaks a bound; `violations` names them
├── MalformedMessage
├── MessageTooLarge         the message is over 4 MiB
├── JobNotFound, QueueNotFound
├── JobIdConflict           the id is taken by another body
├── JobIdAmbiguous          the id is in several queues: name one
├── JobFinal, JobDead       cancel came too late
├── JobDied, JobCancelled   what wait raises instead of a result; `job` is the job
├── TooManyQueues
├── SessionLost, SessionSuperseded
├── EnqueueManyError        some jobs of many were refused; `errors` by position
├── Unavailable             nobody answers, or a server asks to try later
├── DeadlineExceeded        no answer in time
└── InternalError           a bug in the server
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

if TYPE_CHECKING:
    from atlasqueue.jobs import Job

DOMAIN = "atlasqueue"
DETAILS_KEY = "grpc-status-details-bin"


class AtlasQueueError(Exception):
    """Base of all errors. `reason` is the contract's name for the class; None where it has none."""

    reason: ClassVar[str | None] = None


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken bound: the field's path and what it must be."""

    field: str
    bound: str


class InvalidField(AtlasQueueError):
    """A field breaks a bound."""

    reason = "INVALID_FIELD"
    violations: tuple[Violation, ...] = ()


class MalformedMessage(AtlasQueueError):
    """The server could not parse the request."""

    reason = "MALFORMED_MESSAGE"


class MessageTooLarge(AtlasQueueError):
    """The message is over the transport's 4 MiB: send less at once."""


class JobNotFound(AtlasQueueError):
    """No such job, or it was pruned or purged."""

    reason = "JOB_NOT_FOUND"


class QueueNotFound(AtlasQueueError):
    """No such queue."""

    reason = "QUEUE_NOT_FOUND"


class JobIdConflict(AtlasQueueError):
    """The id is taken by a job with another body: make a new id."""

    reason = "JOB_ID_CONFLICT"


class JobIdAmbiguous(AtlasQueueError):
    """The id is in several queues: name the queue."""

    reason = "JOB_ID_AMBIGUOUS"


class JobFinal(AtlasQueueError):
    """The job is succeeded or cancelled, which is final."""

    reason = "JOB_FINAL"


class JobDead(AtlasQueueError):
    """The job is a dead letter: redrive or purge it instead."""

    reason = "JOB_DEAD"


class TooManyQueues(AtlasQueueError):
    """The server's limit of queues is reached."""

    reason = "TOO_MANY_QUEUES"


class SessionLost(AtlasQueueError):
    """The worker's session is lost for good."""

    reason = "SESSION_LOST"


class SessionSuperseded(AtlasQueueError):
    """The worker's session was opened again with a higher epoch."""

    reason = "SESSION_SUPERSEDED"


class Unavailable(AtlasQueueError):
    """Nobody answers, or the server asks to try again later. Calls with ids are safe to repeat."""


class DatabaseUnavailable(Unavailable):
    """The server's database does not answer."""

    reason = "DATABASE_UNAVAILABLE"


class ShuttingDown(Unavailable):
    """The server is draining."""

    reason = "SHUTTING_DOWN"


class Overloaded(Unavailable):
    """Too many calls wait on the server."""

    reason = "OVERLOADED"


class DeadlineExceeded(AtlasQueueError):
    """No answer within the timeout; the call may have worked."""


class InternalError(AtlasQueueError):
    """A bug in the server; its log holds the details."""

    reason = "INTERNAL"


class JobDied(AtlasQueueError):
    """The job that was waited for became a dead letter."""

    job: Job


class JobCancelled(AtlasQueueError):
    """The job that was waited for was cancelled."""

    job: Job


class EnqueueManyError(AtlasQueueError):
    """Some of many jobs were refused; all others are stored. `errors` has them by position."""

    def __init__(self, errors: Mapping[int, AtlasQueueError], job_ids: Sequence[str]) -> None:
        self.errors = dict(errors)
        self.job_ids = list(job_ids)
        first = min(self.errors)
        super().__init__(
            f"{len(self.errors)} of {len(self.job_ids)} jobs were refused; "
            f"the first is number {first}: {self.errors[first]}"
        )


BY_REASON: dict[str, type[AtlasQueueError]] = {
    kind.reason: kind
    for kind in (
        InvalidField,
        MalformedMessage,
        JobNotFound,
        QueueNotFound,
        JobIdConflict,
        JobIdAmbiguous,
        JobFinal,
        JobDead,
        TooManyQueues,
        SessionLost,
        SessionSuperseded,
        DatabaseUnavailable,
        ShuttingDown,
        Overloaded,
        InternalError,
    )
    if kind.reason is not None
}

# For errors that come from the transport, before any server could give a reason.
BY_CODE: dict[int, type[AtlasQueueError]] = {
    code_pb2.UNAVAILABLE: Unavailable,
    code_pb2.DEADLINE_EXCEEDED: DeadlineExceeded,
    code_pb2.RESOURCE_EXHAUSTED: MessageTooLarge,
    code_pb2.INTERNAL: InternalError,
}

# What the transport says when a connection breaks or a server is killed in the middle of a call; a
# server's own errors come with a reason.
BROKEN = {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}


def from_status(status: status_pb2.Status) -> AtlasQueueError:
    """The error that a google.rpc.Status stands for."""
    kind = BY_CODE.get(status.code, AtlasQueueError)
    violations: tuple[Violation, ...] = ()
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            kind = BY_REASON.get(info.reason, kind)
        broken = error_details_pb2.BadRequest()
        if detail.Unpack(broken):
            violations = tuple(Violation(v.field, v.description) for v in broken.field_violations)
    error = kind(status.message)
    if isinstance(error, InvalidField):
        error.violations = violations
    return error


def from_rpc_error(error: grpc.RpcError) -> AtlasQueueError:
    """The error that an RPC's failure stands for."""
    details = _status_bytes(error)
    if details is not None:
        status = status_pb2.Status()
        status.ParseFromString(details)
        return from_status(status)
    code, text = grpc.StatusCode.UNKNOWN, str(error)
    if isinstance(error, grpc.aio.AioRpcError | grpc.Call):
        code, text = error.code(), error.details() or ""
    if code in BROKEN:
        return Unavailable(f"the connection broke ({code.name}: {text})")
    return from_status(status_pb2.Status(code=code.value[0], message=f"{code.name}: {text}"))


def _status_bytes(error: grpc.RpcError) -> bytes | None:
    if not isinstance(error, grpc.aio.AioRpcError | grpc.Call):
        return None
    metadata: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            return value
    return None
