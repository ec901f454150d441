"""A worker's session as one server sees it: its slots, what fills them, and its stream of events."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import AtlasQueueError
from atlasqueue_server.model.jobs import LeaseName, Session
from atlasqueue_server.store.lease import LeasedRow


@dataclass(frozen=True, slots=True)
class JobsLeased:
    """Jobs of one queue, leased to the session."""

    queue: str
    rows: list[LeasedRow]
    # What they take in a message, at most.
    wire_bytes: int


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Cancel was requested for a job that the session holds."""

    lease: LeaseName


@dataclass(frozen=True, slots=True)
class Pinged:
    """The stream lives."""


@dataclass(frozen=True, slots=True)
class WentAway:
    """No more jobs on this stream."""

    reason: str


Event = JobsLeased | CancelAsked | Pinged | WentAway


@dataclass(eq=False, slots=True)
class OpenSession:
    """An open stream (or a waiting LeaseOnce). Credit = slots − jobs leased − jobs being leased."""

    session: Session
    queues: tuple[str, ...]
    slots: int
    fences: set[int] = field(default_factory=set)
    cancels_told: set[int] = field(default_factory=set)
    reserved: int = 0
    turn: int = 0
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    _looked_at: set[str] = field(default_factory=set)
    closed: AtlasQueueError | None = None
    ended: bool = False
    _events: deque[Event] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def session_id(self) -> int:
        """The session's id."""
        return self.session.session_id

    @property
    def credit(self) -> int:
        """How many more jobs may be leased to it."""
        return 0 if self.ended else self.slots - len(self.fences) - self.reserved

    @property
    def fence_floor(self) -> int:
        """All leases of it that this server knows are above."""
        return min(self.fences, default=1) - 1

    def queues_in_turn(self) -> tuple[str, ...]:
        """Its queues, another one first each time: round robin."""
        self.turn = (self.turn + 1) % len(self.queues)
        return self.queues[self.turn :] + self.queues[: self.turn]

    def queues_after(self, queue: str) -> tuple[str, ...]:
        """Its other queues, from the one behind `queue` on: who comes first takes the credit, so each has its turn."""
        at = self.queues.index(queue)
        return self.queues[at + 1 :] + self.queues[:at]

    def looked_at(self, queue: str) -> None:
        """A lane has looked into one of its queues; `looked` is set when all were, or jobs have come."""
        self._looked_at.add(queue)
        if len(self._looked_at) == len(self.queues):
            self.looked.set()

    def push(self, event: Event) -> None:
        """Hands an event to the stream."""
        self._events.append(event)
        self._arrived.set()
        self.looked.set()

    def end(self, error: AtlasQueueError | None = None) -> None:
        """No more leases; the stream ends after the events that wait, with `error` if there is one."""
        self.ended = True
        self.closed = self.closed or error
        self.looked.set()
        self._arrived.set()

    def undelivered(self) -> list[JobsLeased]:
        """The leases that wait to be written, taken out."""
        waiting = [event for event in self._events if isinstance(event, JobsLeased)]
        self._events.clear()
        return waiting

    def _next_part(self) -> Event:
        """The next event; of one that no message could carry, as much as one can."""
        event = self._events.popleft()
        if not isinstance(event, JobsLeased) or event.wire_bytes <= limits.MESSAGE_CUT_BYTES:
            return event
        size = 0
        for fit, row in enumerate(event.rows):
            if fit and size + row.wire_bytes > limits.MESSAGE_CUT_BYTES:
                rest = JobsLeased(event.queue, event.rows[fit:], event.wire_bytes - size)
                self._events.appendleft(rest)
                return JobsLeased(event.queue, event.rows[:fit], size)
            size += row.wire_bytes
        return event

    async def next_event(self, wait_s: float | None = None) -> Event | None:
        """The next event; None when the stream has ended, or after `wait_s` without one."""
        if not self._events and not self.ended:
            if wait_s is None:
                await self._arrived.wait()
            else:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._arrived.wait()
                except TimeoutError:
                    return None
        if self._events:
            event = self._next_part()
            if not self._events and not self.ended:
                self._arrived.clear()
            return event
        return None
