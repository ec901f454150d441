"""The errors of the domain: one class, one reason each, no transport.

The rpc floor maps reasons to gRPC statuses in one table; nobody decides by the text.

    AtlasQueueError
    ├── InvalidField        a bound is broken (carries the violations)
    ├── MalformedMessage    bytes that are no message
    ├── JobNotFound, QueueNotFound
    ├── JobIdConflict, JobIdAmbiguous
    ├── JobFinal, JobDead
    ├── TooManyQueues
    ├── SessionLost, SessionSuperseded
    └── Unavailable         DatabaseUnavailable, ShuttingDown, Overloaded
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class AtlasQueueError(Exception):
    """Base of all errors that a caller is told of. `reason` is the machine-readable name."""

    reason: ClassVar[str] = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken bound: the field's path in the request and what it must be."""

    field: str
    bound: str


class InvalidField(AtlasQueueError):
    """A field breaks a bound; the message names both."""

    reason = "INVALID_FIELD"

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{v.field}: {v.bound}" for v in self.violations))

    @classmethod
    def of(cls, field: str, bound: str) -> InvalidField:
        """The error for a single violation."""
        return cls([Violation(field, bound)])


class MalformedMessage(AtlasQueueError):
    """The bytes of a request cannot be parsed as its message."""

    reason = "MALFORMED_MESSAGE"


class JobNotFound(AtlasQueueError):
    """No such job, or it was pruned or purged."""

    reason = "JOB_NOT_FOUND"


class QueueNotFound(AtlasQueueError):
    """No such queue."""

    reason = "QUEUE_NOT_FOUND"


class JobIdConflict(AtlasQueueError):
    """The id is taken by a job with another body."""

    reason = "JOB_ID_CONFLICT"


class JobIdAmbiguous(AtlasQueueError):
    """The id stands in several queues and no queue was named."""

    reason = "JOB_ID_AMBIGUOUS"


class JobFinal(AtlasQueueError):
    """The job is succeeded or cancelled."""

    reason = "JOB_FINAL"


class JobDead(AtlasQueueError):
    """The job is a dead letter."""

    reason = "JOB_DEAD"


class TooManyQueues(AtlasQueueError):
    """The limit of queues is reached."""

    reason = "TOO_MANY_QUEUES"


class SessionLost(AtlasQueueError):
    """The session is lost for good, or never existed."""

    reason = "SESSION_LOST"


class SessionSuperseded(AtlasQueueError):
    """The session was opened again with a higher epoch."""

    reason = "SESSION_SUPERSEDED"


class Unavailable(AtlasQueueError):
    """The call may be repeated with backoff."""


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""

    reason = "DATABASE_UNAVAILABLE"


class ShuttingDown(Unavailable):
    """The server is draining."""

    reason = "SHUTTING_DOWN"

    def __init__(self, message: str = "this server is shutting down") -> None:
        super().__init__(message)


class Overloaded(Unavailable):
    """Too many calls wait on this server."""

    reason = "OVERLOADED"
