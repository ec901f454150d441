"""lease: ready → leased. Few large leases instead of many small ones.

One lane per queue and process collects the credits of all sessions that serve the queue and leases once
for all of them:

    sessions ──credits──▶ Lane(queue) ──one statement──▶ rows ──▶ each session's events
                               └─ in a backlog up to three at once: one waits for its commit, one's
                                  rows are dealt, one gathers credit

A lane sleeps while its queue is known to be empty or nobody has credit. It wakes when jobs become
ready (a signal), when a slot is freed, and each second (the poll, which is also the sweep). A push is
only an early answer to the same ordered query, so stream and poll share one order.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from atlasqueue_server.domain.order import PRIORITIES, Reserve, interleave
from atlasqueue_server.domain.sessions import JobsLeased, OpenSession
from atlasqueue_server.domain.watermark import Watermark
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import Unavailable
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.lease import (
    LeasedRow,
    LeaseOrder,
    SeqWindow,
    lease_jobs_if_ready,
    wire_bytes,
)
from atlasqueue_server.store.report import bury_lost_bodies

BATCH_MAX = 1000
# How many statements of a lane are out at once in a backlog.
FLIGHTS_MAX = 3
# A lease reads whole payloads: large ones are leased by fewer, so that a batch stays within this.
BATCH_BYTES = 16 * 1024 * 1024
# A lease asks for twice what the last one found, and for no fewer than so many: asking for a thousand where
# one job waits costs more than the job.
BATCH_MIN = 8
POLL_S = 1.0
# How long a backlog lets credit gather, so that one statement leases many jobs.
GATHER_S = 0.005
RETRY_S = 0.25

log = structlog.get_logger("atlasqueue.lease")

GiveBack = Callable[[str, Sequence[LeasedRow]], None]


@dataclass(slots=True)
class Flight:
    """Lease statements of one transaction: for whom they ask, and what they have found."""

    chosen: Sequence[OpenSession]
    # How many of these are each session's.
    slots: Mapping[OpenSession, int]
    orders: Sequence[LeaseOrder]
    rows: list[LeasedRow] = field(default_factory=list)


class Lane:
    """Leases from one queue for all sessions of this process that serve it."""

    def __init__(
        self,
        database: Database,
        queue: str,
        give_back: GiveBack,
        credit_returned: Callable[[OpenSession, str], None],
        journal: Journal | None = None,
        may_lease: Callable[[], bool] = lambda: True,
    ) -> None:
        self.queue = queue
        self.sessions: dict[OpenSession, None] = {}
        self._database = database
        self._give_back = give_back
        self._credit_returned = credit_returned
        self._journal = journal or Journal()
        self._may_lease = may_lease
        self._watermarks = {priority: Watermark() for priority in PRIORITIES}
        self._reserve = Reserve()
        self._may_be_ready = True
        self.backlog = False
        self._more = asyncio.Event()
        self._batch = BATCH_MIN
        self._wake = asyncio.Event()
        self._swept_at = 0.0
        self._flights = 0
        self._landed = asyncio.Event()
        self._landed.set()
        self._bodiless: list[LeasedRow] = []

    def jobs_ready(self) -> None:
        """Jobs may have become ready."""
        self._may_be_ready = True
        self._wake.set()

    def credit_freed(self) -> None:
        """A session may hold more."""
        if self._may_be_ready:
            self._wake.set()

    async def run(self) -> None:
        """Leases for as long as the lane lives."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._forever(self._wait_and_lease))
            for _ in range(FLIGHTS_MAX - 1):
                loops.create_task(self._forever(self._help_with_backlog))

    async def _forever(self, turn: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await turn()
            except Unavailable:
                await asyncio.sleep(RETRY_S)
            except Exception:
                # A lane that died would leave its queue unserved for as long as the server lives.
                log.exception("lease_failed", queue=self.queue)
                await asyncio.sleep(POLL_S)

    async def _wait_and_lease(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._wake.wait()
        except TimeoutError:
            self._may_be_ready = True
        self._wake.clear()
        while self._may_be_ready:
            if self.backlog:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_S):
                        await self._gather_credit()
            if not await self._lease_once():
                break

    async def _help_with_backlog(self) -> None:
        """Leases beside the first loop, whole batches only, and only while there is a backlog."""
        await self._more.wait()
        await self._gather_credit()
        if not (self.backlog and await self._lease_once()):
            self._more.clear()

    async def _gather_credit(self) -> None:
        """Returns when there is credit for a batch. What waits in a backlog waits anyway; leased by
        twos and threes it would wait longer.
        """
        while self.backlog and self._credit() < self._enough():
            await self._wake.wait()
            self._wake.clear()

    def _credit(self) -> int:
        return sum(session.credit for session in self.sessions)

    def _enough(self) -> int:
        return max(1, min(self._batch, sum(session.slots for session in self.sessions) // 2))

    async def quiesce(self) -> None:
        """Returns when no statement of the lane is out; it begins no other while it has no sessions."""
        await self._landed.wait()

    @property
    def free(self) -> bool:
        """Whether a lease would leave at once and alone."""
        return not (self._flights or self.backlog) and self._can_lease()

    def _can_lease(self) -> bool:
        return any(session.credit > 0 for session in self.sessions) and self._may_lease()

    @contextmanager
    def flight(self, *, sweep: bool = False) -> Iterator[Flight]:
        """Holds credit for one transaction with lease statements, and deals what they have found.

        Somebody must have credit. The block runs the statements and sets the flight's rows once they are
        committed; one that fails changes nothing here.
        """
        flight = self._board(sweep)
        with self._out():
            try:
                try:
                    yield flight
                finally:
                    for session, slots in flight.slots.items():
                        session.reserved -= slots
                        session.looked_at(self.queue)
            except BaseException:
                self.jobs_ready()
                raise
            self._land(flight)

    @contextmanager
    def _out(self) -> Iterator[None]:
        self._flights += 1
        self._landed.clear()
        try:
            yield
        finally:
            self._flights -= 1
            if not self._flights:
                self._landed.set()

    def _board(self, sweep: bool) -> Flight:
        chosen = interleave(((s, s.credit) for s in self.sessions), self._batch)
        slots = Counter(chosen)
        for session, count in slots.items():
            session.reserved += count
        # Cleared before the statement: what becomes ready while it runs sets it again.
        self._may_be_ready = False
        return Flight(chosen, slots, self._orders(chosen, time.monotonic(), sweep))

    def _land(self, flight: Flight) -> None:
        if flight.rows:
            self._deal(flight.slots, flight.rows)
        self.backlog = len(flight.rows) == len(flight.chosen)
        if self.backlog:
            self._more.set()
        else:
            self._more.clear()
            for session in flight.slots:
                self._credit_returned(session, self.queue)
        self._bodiless += (row for row in flight.rows if row.kind is None)
        if self.backlog or self._bodiless:
            self.jobs_ready()

    async def _lease_once(self) -> bool:
        """Leases one batch; False when nobody has credit."""
        if not self._can_lease():
            return False
        began = time.monotonic()
        sweep = began - self._swept_at >= POLL_S
        with self._out():
            with self.flight(sweep=sweep) as flight:
                flight.rows = await lease_jobs_if_ready(self._database, self.queue, flight.orders)
                if sweep:
                    took_s = time.monotonic() - began
                    for watermark in self._watermarks.values():
                        watermark.window_took(took_s)
            await self._bury()
        return True

    async def _bury(self) -> None:
        """Makes dead letters of the leased jobs whose bodies are lost."""
        bodiless, self._bodiless = self._bodiless, []
        if bodiless:
            leases = [(row.job_id, row.fence) for row in bodiless]
            await bury_lost_bodies(self._database, self.queue, leases)
            self._journal.buried(self.queue, len(bodiless))

    def _rotate(self, served: OpenSession) -> None:
        # A session that was served goes to the end, so that the others come first next time.
        if self.sessions.pop(served, self) is None:
            self.sessions[served] = None

    def _orders(self, chosen: Sequence[OpenSession], now: float, sweep: bool) -> list[LeaseOrder]:
        if sweep:
            self._swept_at = now
            self._journal.swept()
        ids = [session.session_id for session in chosen]
        # Without a backlog nothing is left for later, and nobody needs a share.
        strict, reserved = self._reserve.split(len(ids)) if self.backlog else (len(ids), 0)
        orders = []
        if strict:
            orders.append(LeaseOrder(self._windows(PRIORITIES, now, sweep), ids[:strict]))
        if reserved:
            lower_first = self._windows(self._reserve.lower_first(), now, False)
            orders.append(LeaseOrder(lower_first, ids[strict:]))
        return orders

    def _windows(self, priorities: Sequence[int], now: float, sweep: bool) -> list[SeqWindow]:
        marks = [(priority, self._watermarks[priority]) for priority in priorities]
        end = limits.INT64_MAX
        if not sweep:
            return [SeqWindow(priority, mark.floor(now), end) for priority, mark in marks]
        windows = [SeqWindow(priority, mark.sweep_floor(now), end) for priority, mark in marks]
        rotating = [(priority, mark.next_window(now)) for priority, mark in marks]
        return windows + [SeqWindow(priority, *w) for priority, w in rotating if w]

    def _deal(self, asked: Mapping[OpenSession, int], rows: list[LeasedRow]) -> None:
        now = time.monotonic()
        self._journal.leased(self.queue, rows)
        in_all = wire_bytes(rows)
        most = min(max(1, BATCH_BYTES * len(rows) // in_all), BATCH_MAX)
        self._batch = min(most, max(BATCH_MIN, 2 * len(rows)))
        for priority in {row.priority for row in rows}:
            seqs = (row.seq for row in rows if row.priority == priority)
            self._watermarks[priority].record(now, max(seqs))
        by_session = _by_session(asked, [row for row in rows if row.kind is not None])
        for session, slots in asked.items():
            # Two that wait may be of one session: each gets no more than it asked for.
            of_session = by_session[session.session_id]
            leased, by_session[session.session_id] = of_session[:slots], of_session[slots:]
            if leased and session.ended:
                self._give_back(self.queue, leased)
            elif leased:
                self._rotate(session)
                session.fences.update([row.fence for row in leased])
                session.push(JobsLeased(self.queue, leased, in_all))


def _by_session(
    asked: Mapping[OpenSession, int], rows: list[LeasedRow]
) -> dict[int, list[LeasedRow]]:
    if len(asked) == 1:
        return {next(iter(asked)).session_id: rows}
    by_session: dict[int, list[LeasedRow]] = {session.session_id: [] for session in asked}
    for row in rows:
        by_session[row.session_id].append(row)
    return by_session
