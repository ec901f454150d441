"""Histories and final databases by hand, for the checker's own tests.

    story = Story()
    story.enqueue("a")
    story.lease("a", fence=1, worker="w1")
    story.report("a", fence=1, outcome="complete")
    verdict = story.check()

A story moves the history and the database together, as a right server would; a test then bends one of the
two. Time is in seconds, and the database's clock runs 1000 s ahead of the history's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.history.check import check
from tests.history.events import (
    Alive,
    Clock,
    Delivered,
    Enqueued,
    Event,
    JobKey,
    Process,
    Reported,
)
from tests.history.final import Final, Move, SessionRow, Standing, TermRow
from tests.history.history import History
from tests.history.verdict import Verdict

QUEUE = "q"
AHEAD = 1000.0
VISIBILITY_S = 3.0
ARRIVES = {
    "complete": ("succeeded", ""),
    "cancel": ("cancelled", ""),
    "reject": ("dead", "r"),
    "fail": ("scheduled", "f"),
    "snooze": ("scheduled", "s"),
    "release": ("ready", "l"),
}


@dataclass
class Story:
    """A history and the database that belongs to it."""

    now: float = 0.0
    events: list[Event] = field(default_factory=list)
    final: Final = field(default_factory=Final)
    sessions: dict[str, int] = field(default_factory=dict)
    leader: str = "server_1"

    def __post_init__(self) -> None:
        self.tell(Clock, who="driver", database=AHEAD)

    def tell(self, kind: type[Event], **values: Any) -> Event:
        """Adds a line."""
        event = kind(
            **({"at": self.now, "who": "driver", "where": f"story:{len(self.events)}"} | values)
        )
        self.events.append(event)
        return event

    def key(self, job: str) -> JobKey:
        """The job's name."""
        return QUEUE, job

    def move(self, job: str, place: str, cause: str = "", **fields: Any) -> None:
        """A job arrives in a place."""
        key = self.key(job)
        before = self.final.standings.get(key, [Standing("", 0, 0)])[0]
        values = {
            "fence": before.fence,
            "deliveries": before.deliveries,
            "actor": self.leader,
        } | fields
        at = self.now + AHEAD
        move = Move(len(self.final.moves) + 1, key, place, cause, began=at, at=at, **values)
        self.final.moves.append(move)
        self.final.standings[key] = [Standing(place, move.fence, move.deliveries, move.result)]

    def enqueue(self, job: str, body: str = "body") -> None:
        """A job is acknowledged."""
        self.tell(Enqueued, who="producer", queue=QUEUE, job_id=job, body=body)
        self.final.bodies[self.key(job)] = body
        self.move(job, "ready", "e")

    def session(self, worker: str) -> int:
        """The worker's session, opened on first use."""
        if worker not in self.sessions:
            self.sessions[worker] = len(self.sessions) + 1
            self._note_session(worker, lost=False)
        return self.sessions[worker]

    def _note_session(self, worker: str, *, lost: bool) -> None:
        at = self.now + AHEAD
        row = SessionRow(self.sessions[worker], worker, VISIBILITY_S, lost, at, at, self.leader)
        self.final.sessions.append(row)

    def lease(self, job: str, fence: int, worker: str = "w1") -> None:
        """A job is leased and delivered."""
        deliveries = self.final.standings[self.key(job)][0].deliveries + 1
        session = self.session(worker)
        self.move(job, "leased", fence=fence, deliveries=deliveries, session_id=session)
        self.deliver(job, fence, deliveries, worker)

    def deliver(
        self, job: str, fence: int, deliveries: int, worker: str = "w1", **more: Any
    ) -> None:
        """A worker is handed a job."""
        values = {"queue": QUEUE, "job_id": job, "fence": fence, "deliveries": deliveries} | more
        self.tell(Delivered, who=worker, **values)

    def report(self, job: str, fence: int, outcome: str = "complete", worker: str = "w1") -> None:
        """An outcome is applied."""
        place, cause = ARRIVES[outcome]
        result = f"by {fence}" if outcome == "complete" else ""
        self.move(job, place, cause, result=result)
        if outcome in ("fail", "reject"):
            self.final.failures.add((self.key(job), fence, cause))
        self.answer(job, fence, outcome, "applied", worker, state=place, result=result)

    def answer(
        self, job: str, fence: int, outcome: str, answer: str, worker: str = "w1", **more: str
    ) -> None:
        """A report is answered, whatever the database did."""
        values = {
            "queue": QUEUE,
            "job_id": job,
            "fence": fence,
            "outcome": outcome,
            "answer": answer,
        }
        self.tell(Reported, who=worker, **(values | more))

    def tick(self, term: int = 1, seconds: float = 0.0, actor: str = "") -> None:
        """The leader touches its row five times a second for so long."""
        end = self.now + seconds
        while True:
            at = self.now + AHEAD
            self.final.terms.append(TermRow(term, at, at, actor or self.leader))
            if self.now >= end:
                return
            self.now += 0.2

    def live(self, worker: str, since: float, until: float) -> None:
        """The worker says that it is alive all the time."""
        for step in range(int((until - since) * 5) + 1):
            self.events.append(Alive(at=since + step / 5, who=worker))

    def expire(self, worker: str, jobs: list[str]) -> None:
        """The worker's session is lost, and its leases with it."""
        self._note_session(worker, lost=True)
        for job in jobs:
            self.move(job, "scheduled", "x")

    def kill(self, worker: str) -> None:
        """kill -9."""
        self.tell(Process, who=worker, state="killing")
        self.tell(Process, who=worker, state="killed")

    def bend(self, kind: type[Event], **values: Any) -> None:
        """Changes the last line of a kind."""
        for index in reversed(range(len(self.events))):
            if isinstance(self.events[index], kind):
                self.events[index] = replace(self.events[index], **values)
                return
        raise AssertionError(f"no {kind.__name__} in the story")

    def check(self) -> Verdict:
        """What the checker says."""
        self.final.now = self.now + AHEAD
        return check(History(self.events), self.final)
