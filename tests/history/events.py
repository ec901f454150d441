"""What a history is made of: one small record a line.

`at` is CLOCK_MONOTONIC in seconds. All processes of one machine share it, and a faked or stepped wall
clock does not touch it; `Clock` records tie it to the database's clock.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Self

JobKey = tuple[str, str]


def value_hash(value: bytes) -> str:
    """Stands for a payload or a result, which do not belong in a log."""
    return hashlib.sha256(value).hexdigest()[:16]


def body_hash(kind: str, payload: bytes, priority: int) -> str:
    """Stands for the body of a job, as far as every party sees it."""
    return value_hash(f"{kind}\0{priority}\0".encode() + payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base. `where` is file:line, set when it is read."""

    event: ClassVar[str]
    at: float
    who: str
    where: str = field(default="", compare=False)

    def to_json(self) -> dict[str, Any]:
        """The line, without where it stands."""
        values = asdict(self)
        del values["where"]
        return {"event": self.event} | values

    @classmethod
    def from_json(cls, values: dict[str, Any], where: str) -> Self:
        """The record of a line; fields of a later version are ignored."""
        known = {f.name for f in fields(cls)} - {"where"}
        return cls(**{k: v for k, v in values.items() if k in known}, where=where)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfJob(Event):
    """Base of what speaks of one job."""

    queue: str
    job_id: str

    @property
    def key(self) -> JobKey:
        """The job."""
        return self.queue, self.job_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued(OfJob):
    """An enqueue was answered: `answer` is ok or the reason of the refusal."""

    event = "enqueued"
    body: str
    answer: str = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered(OfJob):
    """A worker was handed a job, before its handler began."""

    event = "delivered"
    fence: int
    attempt: int = 0
    crashes: int = 0
    deliveries: int = 1
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported(OfJob):
    """A report was answered. `state` is where the job went when the answer was applied."""

    event = "reported"
    fence: int
    outcome: str
    answer: str
    state: str = ""
    result: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(OfJob):
    """A cancel was answered: cancelled, requested, or the reason of the refusal."""

    event = "cancelled"
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven(OfJob):
    """An operator's redrive of this job was answered."""

    event = "redriven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged(OfJob):
    """An operator's purge of this job was answered."""

    event = "purged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen(OfJob):
    """A producer read the job, or waited for it: its state, and its result if it had one."""

    event = "seen"
    state: str
    result: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive(Event):
    """A thread of the process woke on time: the process runs and the machine gives it a turn."""

    event = "alive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process(Event):
    """What was done to a process: started, killing, killed, stopping, continued, cutting, healed, ended.

    The -ing comes before the deed and the other after it, so that a moment between them counts against
    nobody. `who` is the process.
    """

    event = "process"
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage(Event):
    """A server, the leader or the database went away (`ended` false) or came back. `who` names it."""

    event = "outage"
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock(Event):
    """The database's clock, seconds since 1970, at this moment."""

    event = "clock"
    database: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement(Event):
    """A scheduler's statement that was sent under `term` when `newest` was known to exist."""

    event = "statement"
    name: str
    term: int
    newest: int
    rows: int


KINDS: dict[str, type[Event]] = {
    kind.event: kind
    for kind in (
        Enqueued,
        Delivered,
        Reported,
        Cancelled,
        Redriven,
        Purged,
        Seen,
        Alive,
        Process,
        Outage,
        Clock,
        Statement,
    )
}
