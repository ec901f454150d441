"""A tick renews the leader's lease; the leader itself does when no tick has."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from atlasqueue_server.model.jobs import OutcomeKind
from atlasqueue_server.model.states import State
from atlasqueue_server.scheduler.leader import Leader
from atlasqueue_server.scheduler.tick import Tick
from atlasqueue_server.store import scheduler as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term
from tests.factories import Factory, execute, open_database, take_term_by_force
from tests.waiting import eventually_so

TIME_LEFT = (
    "select extract(epoch from expires_at - clock_timestamp())::float8 from atlasqueue.leader"
)


async def _left_s(database: Database) -> float:
    """Seconds left of the leader's lease."""
    async with database.connection() as connection:
        return float((await execute(connection, TIME_LEFT))[0][0])


async def test_a_tick_renews_the_lease(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_database(migrated_database_url) as database:
        term = await take_term_by_force(migrated_database_url)
        tick = Tick(database, lease_s=7200.0)
        assert tick.renewed_at == -math.inf
        clock = asyncio.get_running_loop().time
        sent_at: list[float] = []
        tick_for_real = store.tick_if_leader

        async def send(*args: Any) -> store.Ahead | None:
            sent_at.append(clock())
            return await tick_for_real(*args)

        monkeypatch.setattr(store, "tick_if_leader", send)
        before = clock()
        await tick.tick(term)
        left_s = await _left_s(database)
    assert 3600 < left_s <= 7200
    # The leader trusts its lease from before the statement was sent.
    assert before <= tick.renewed_at <= sent_at[0]


async def test_a_tick_under_an_old_term_renews_nothing(migrated_database_url: str) -> None:
    async with open_database(migrated_database_url) as database:
        old = await take_term_by_force(migrated_database_url, "older")
        await take_term_by_force(migrated_database_url, "newer")
        tick = Tick(database, lease_s=7200.0)
        await tick.tick(old)
        left_s = await _left_s(database)
    assert left_s <= 3600
    assert tick.renewed_at == -math.inf


async def test_a_tick_does_not_renew_a_lease_that_is_over(migrated_database_url: str) -> None:
    """A leader that has resigned stays so, whatever of its own was still on its way."""
    async with open_database(migrated_database_url) as database:
        term = await take_term_by_force(migrated_database_url)
        await store.resign_leadership_if_leader(database, term)
        await Tick(database, lease_s=7200.0).tick(term)
        left_s = await _left_s(database)
    assert left_s <= 0


class Renewals:
    """Stands for the statements of an election; says how often the lease was renewed by itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.by_leader = 0
        self.asked = 0
        self.ticking = True
        monkeypatch.setattr(store, "take_leadership_if_free", self._take)
        monkeypatch.setattr(store, "renew_leadership_if_leader", self._renew)
        monkeypatch.setattr(store, "resign_leadership_if_leader", self._resign)

    async def _take(self, _: Database, holder: str, __: float) -> Term:
        return Term(1, holder)

    async def _renew(self, *_: Any) -> bool:
        self.by_leader += 1
        return True

    async def _resign(self, *_: Any) -> None:
        return

    def renewed_at(self) -> float:
        """As if a tick had renewed just now, or never."""
        self.asked += 1
        return asyncio.get_running_loop().time() if self.ticking else -math.inf


async def test_the_leader_renews_by_itself_only_when_no_tick_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renewals = Renewals(monkeypatch)
    # The statements are stood for, so there need be no database.
    leader = Leader(Database(""), "a", (), 0.5, renewed_at=renewals.renewed_at)
    running = asyncio.create_task(leader.run())
    try:
        await eventually_so(lambda: renewals.asked >= 3)
        assert renewals.by_leader == 0
        renewals.ticking = False
        await eventually_so(lambda: renewals.by_leader >= 2)
        assert leader.leading
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_tick_looks_ahead(migrated_database_url: str) -> None:
    """It showed when the statement was broken on purpose: a loop that nobody wants looks after ten seconds all the
    same, and no test saw that it came late."""
    async with (
        open_database(migrated_database_url) as database,
        database.connection() as connection,
    ):
        term = await take_term_by_force(migrated_database_url)

        async def ahead() -> store.Ahead:
            found = await store.tick_if_leader(database, term, 9.0, 1e9)
            assert found is not None
            return found

        factory = Factory(database, "mail")
        nothing = store.Ahead(to_expire=False, overdue=False, to_fold=False, due_in_s=None)
        at = await factory.job_in(State.LEASED, deadline_ms=60_000)
        assert await ahead() == nothing._replace(to_fold=True)
        await execute(connection, "truncate atlasqueue.depth_deltas")
        assert await ahead() == nothing

        for change, seen in (
            ("leased set deadline_at = now() - interval '1 s'", {"overdue": True}),
            ("leased set deadline_at = null", {}),
            ("sessions set expires_at = now() - interval '1 s'", {"to_expire": True}),
            # Lost, and a lease is left.
            ("sessions set lost = true", {"to_expire": True}),
        ):
            await execute(connection, f"update atlasqueue.{change}")
            assert await ahead() == nothing._replace(**seen), change
        await factory.report(at.job_id, at.fence, OutcomeKind.SNOOZE, delay_ms=3_600_000)
        await execute(connection, "truncate atlasqueue.depth_deltas")
        left = await ahead()
        assert left._replace(due_in_s=None) == nothing
        assert left.due_in_s == pytest.approx(3600, abs=60)
