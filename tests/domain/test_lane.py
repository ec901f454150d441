"""How many lease statements of a lane are out at once, and that its end waits for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from atlasqueue_server.domain import lease
from atlasqueue_server.domain.dispatch import Dispatcher
from atlasqueue_server.domain.lease import BATCH_BYTES, BATCH_MIN, FLIGHTS_MAX, Lane
from atlasqueue_server.domain.sessions import JobsLeased, OpenSession
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model import limits
from atlasqueue_server.model.jobs import Session
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.lease import LeasedRow, LeaseOrder
from tests.waiting import eventually_so


class Backlog:
    """Stands for the statement: says how often it is out, and answers with jobs when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, jobs: int) -> None:
        self.out = 0
        self.asked: list[int] = []
        self.answer = asyncio.Event()
        self._left = jobs
        self._fence = 0
        monkeypatch.setattr(lease, "lease_jobs_if_ready", self._lease)

    async def _lease(self, _: Database, __: str, orders: Sequence[LeaseOrder]) -> list[LeasedRow]:
        ids = [session_id for order in orders for session_id in order.sessions]
        self.asked.append(len(ids))
        self.out += 1
        await self.answer.wait()
        self.out -= 1
        ids = ids[: self._left]
        self._left -= len(ids)
        return [self._row(session_id) for session_id in ids]

    def rows(self, sessions: Sequence[OpenSession]) -> list[LeasedRow]:
        """A job for each."""
        return [self._row(session.session_id) for session in sessions]

    def _row(self, session_id: int) -> LeasedRow:
        self._fence += 1
        return LeasedRow(
            session_id,
            b"j" * 16,
            self._fence,
            "k",
            b"",
            None,
            3,
            0,
            0,
            1,
            None,
            None,
            3,
            self._fence,
            None,
        )


@asynccontextmanager
async def running(slots: int, may_lease: Any = lambda: True) -> AsyncIterator[Lane]:
    """A lane with one session of so many slots."""
    lane = Lane(cast(Database, None), "q", _ignore, _ignore, may_lease=may_lease)
    session = Session(1, 1, 30_000)
    lane.sessions[OpenSession(session, ("q",), slots)] = None
    task = asyncio.create_task(lane.run())
    lane.jobs_ready()
    yield lane
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_statement_is_out_until_a_backlog_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backlog = Backlog(monkeypatch, jobs=10 * BATCH_MIN)
    async with running(slots=100 * BATCH_MIN) as lane:
        await eventually_so(lambda: backlog.asked == [BATCH_MIN])
        lane.jobs_ready()
        lane.credit_freed()
        await asyncio.sleep(0)
        assert backlog.out == 1
        backlog.answer.set()
        backlog.answer.clear()
        await eventually_so(lambda: backlog.out == FLIGHTS_MAX)
        lane.jobs_ready()
        await asyncio.sleep(0)
        assert backlog.out == FLIGHTS_MAX


async def test_the_end_of_a_lane_waits_for_all_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    backlog = Backlog(monkeypatch, jobs=10 * BATCH_MIN)
    async with running(slots=100 * BATCH_MIN) as lane:
        await eventually_so(lambda: backlog.out == 1)
        backlog.answer.set()
        backlog.answer.clear()
        await eventually_so(lambda: backlog.out == FLIGHTS_MAX)
        lane.sessions.clear()
        quiet = asyncio.create_task(lane.quiesce())
        await asyncio.sleep(0)
        assert not quiet.done()
        backlog.answer.set()
        await quiet
        assert backlog.out == 0


async def test_a_lane_that_may_not_lease_leaves_the_loop_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its helpers asked again without ever waiting, and the server stood still."""
    backlog = Backlog(monkeypatch, jobs=10 * BATCH_MIN)
    allowed = True
    async with running(100 * BATCH_MIN, lambda: allowed) as lane:
        await eventually_so(lambda: backlog.out == 1)
        allowed = False
        backlog.answer.set()
        async with asyncio.timeout(30):
            await lane.quiesce()
        assert backlog.asked == [BATCH_MIN]


async def test_a_flight_that_is_cancelled_gives_its_credit_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "POLL_S", 3600.0)
    backlog = Backlog(monkeypatch, jobs=0)
    backlog.answer.set()
    async with running(slots=BATCH_MIN) as lane:
        await eventually_so(lambda: backlog.asked == [BATCH_MIN] and lane.free)
        with pytest.raises(asyncio.CancelledError), lane.flight():
            assert not lane.free
            raise asyncio.CancelledError
        assert lane.free
        # Whether it was committed nobody knows: the lane looks again.
        await eventually_so(lambda: backlog.asked == [BATCH_MIN] * 2)


async def test_two_that_wait_for_one_session_get_no_more_than_they_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two polls of one session at once: the first got what both had asked for, the other nothing."""
    backlog = Backlog(monkeypatch, jobs=3)
    backlog.answer.set()
    async with running(slots=2) as lane:
        (first,) = lane.sessions
        second = OpenSession(first.session, first.queues, 1)
        lane.sessions[second] = None
        await eventually_so(lambda: backlog.asked)
        assert (len(first.fences), len(second.fences)) == (2, 1)
        assert (first.credit, second.credit) == (0, 0)


@pytest.mark.parametrize(
    ("jobs", "served"), [(1, [[1], [2], [3], [1]]), (2, [[1, 2], [3, 1], [2, 3], [1, 2]])]
)
async def test_jobs_that_come_by_few_go_to_the_sessions_in_turn(
    monkeypatch: pytest.MonkeyPatch, jobs: int, served: list[list[int]]
) -> None:
    """Of two workers with free slots one got every job, as long as it had slots, and the other none: who had
    been asked for last went to the end, not who had got something."""
    backlog = Backlog(monkeypatch, jobs=jobs * len(served))
    lane = Lane(cast(Database, None), "q", _ignore, _ignore)
    for session_id in (1, 2, 3):
        session = Session(session_id, 1, 30_000)
        lane.sessions[OpenSession(session, ("q",), 10)] = None
    got = []
    for _ in served:
        with lane.flight() as flight:
            flight.rows = backlog.rows(flight.chosen[:jobs])
        got.append([row.session_id for row in flight.rows])
    assert got == served


async def test_large_jobs_are_leased_by_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease reads whole payloads."""
    backlog = Backlog(monkeypatch, jobs=0)
    lane = Lane(cast(Database, None), "q", _ignore, _ignore)
    lane.sessions[OpenSession(Session(1, 1, 30_000), ("q",), 100 * BATCH_MIN)] = None
    large = bytes(BATCH_BYTES // 3)
    asked = []
    for payload in (b"", large, b"", b""):
        with lane.flight() as flight:
            flight.rows = [row._replace(payload=payload) for row in backlog.rows(flight.chosen)]
        asked.append(len(flight.chosen))
    assert asked == [BATCH_MIN, 2 * BATCH_MIN, 2, BATCH_MIN]


def _ignore(*_: object) -> None:
    return


async def test_a_session_with_one_slot_has_each_of_its_queues_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Credit that a lane gave back went to the first queues of the session again, whose polls were due once more: with
    100 queues and looks of 20 ms nobody ever looked into the later half, whatever was ready there.
    """
    looks: set[str] = set()

    async def look(_: Database, queue: str, __: Sequence[LeaseOrder]) -> list[LeasedRow]:
        await asyncio.sleep(0.002)
        looks.add(queue)
        return []

    monkeypatch.setattr(lease, "lease_jobs_if_ready", look)
    # As many polls as can be due by the time that all queues were looked at.
    monkeypatch.setattr(lease, "POLL_S", 0.02)
    dispatcher = Dispatcher(cast(Database, None), Signals())
    queues = [f"q{i}" for i in range(limits.SESSION_QUEUES_MAX)]
    dispatcher.add(Session(1, 1, 30_000), queues, 1, streaming=True)
    try:
        await eventually_so(lambda: looks == set(queues))
    finally:
        await dispatcher.close()


async def test_what_no_message_can_carry_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size that goes with an event may stand for other sessions' rows as well: it is cut by its own rows."""
    session = OpenSession(Session(1, 1, 30_000), ("q",), 100)
    payload = bytes(limits.MESSAGE_CUT_BYTES // 3)
    rows = Backlog(monkeypatch, jobs=0).rows([session] * 7)
    rows = [row._replace(payload=payload) for row in rows]
    for more in (0, len(payload)):
        session.push(JobsLeased("q", rows, more + sum(row.wire_bytes for row in rows)))
    session.end()
    parts = []
    while event := await session.next_event():
        assert isinstance(event, JobsLeased)
        assert sum(row.wire_bytes for row in event.rows) <= limits.MESSAGE_CUT_BYTES
        parts.append([row.fence for row in event.rows])
    assert parts == [[1, 2], [3, 4], [5, 6], [7]] * 2
