"""The nouns of the model: what a verb is asked with, what it answers, and the rows in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from atlasqueue_server.model import limits
from atlasqueue_server.model.jobs import OutcomeKind, ReportStatus
from atlasqueue_server.model.states import State


class Key(NamedTuple):
    """A job."""

    queue: str
    job_id: str


class Lease(NamedTuple):
    """A job under one fence."""

    key: Key
    fence: int


class Body(NamedTuple):
    """What a producer hands in, as far as it matters here."""

    payload: str
    priority: int
    delayed: bool = False
    deadline: bool = False
    max_attempts: int | None = None


class Told(NamedTuple):
    """One outcome of a report."""

    lease: Lease
    kind: OutcomeKind


class Answer(NamedTuple):
    """What a report is told: the status, and where the job stands if it was applied."""

    status: ReportStatus
    state: State | None = None


class Held(NamedTuple):
    """A job that a worker says it holds; percent None: no news of progress."""

    lease: Lease
    percent: int | None = None


class Heard(NamedTuple):
    """What a heartbeat is told."""

    lost: set[Lease]
    cancel: set[Lease]
    reconciled: set[tuple[Key, State]]


class Failed(NamedTuple):
    """A row of failures. final: the job died of it."""

    fence: int
    attempt: int
    cause: str
    final: bool


@dataclass
class Job:
    """A job: its body, the place of its small row, and what its runs left behind."""

    body: Body
    state: State
    cause: str | None
    # Ready: the step that brought it in. Scheduled: 0, or its turn among those that have come due.
    turn: int
    attempt: int = 0
    crashes: int = 0
    deliveries: int = 0
    fence: int = 0
    session: int | None = None
    cancel_requested: bool = False
    past_deadline: int = 0
    wait_ms_max: float = 0
    failures: list[Failed] = field(default_factory=list)
    checkpoint: tuple[int, int] | None = None
    # By fence, the outcome that was accepted under it; and how often the job came back (I5).
    accepted: dict[int, OutcomeKind] = field(default_factory=dict)
    comebacks: int = 0

    @property
    def attempts_spent(self) -> bool:
        """Whether one more failure is the last."""
        return self.attempt + 1 >= (self.body.max_attempts or limits.MAX_ATTEMPTS_DEFAULT)

    @property
    def unknown_kinds(self) -> int:
        """How often it was set aside since it last died."""
        died = max((f.fence for f in self.failures if f.final), default=0)
        return sum(f.cause == "k" and f.fence > died for f in self.failures)


@dataclass
class Session:
    """A worker's session. silent: its turn among those whose time is over, 0 while it has time."""

    queues: tuple[str, ...]
    epoch: int = 1
    lost: bool = False
    silent: int = 0


@dataclass
class Leader:
    """The leader's row. ticked: when the scheduler last gave a sign: recent, late or outage."""

    term: int
    holder: str
    over: bool = False
    ticked: str = "recent"
