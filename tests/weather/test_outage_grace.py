"""The outage grace: workers do not pay for time in which nobody could hear them, and only for that."""

from __future__ import annotations

from typing import Any

import pytest

from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model import limits
from atlasqueue_server.model.states import State
from atlasqueue_server.scheduler.expire import Expire, FailOverdue
from atlasqueue_server.scheduler.tick import Tick
from atlasqueue_server.store import scheduler
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term
from tests.factories import Factory, Standing, execute

LEASE_S = 5.0
OUTAGE_S = LEASE_S + limits.OUTAGE_MARGIN_S


async def take(database: Database, connection: Any, holder: str) -> Term:
    """A term taken as servers take it, once the other's lease is over."""
    await execute(connection, "update atlasqueue.leader set expires_at = now()")
    term = await scheduler.take_leadership_if_free(database, holder, 3600.0)
    assert term is not None
    return term


async def tick_as(database: Database, connection: Any, holder: str) -> Term:
    """A term that `holder` has taken and has ticked under."""
    term = await take(database, connection, holder)
    await Tick(database, LEASE_S).tick(term)
    return term


async def pass_without_ticks(connection: Any, seconds: float) -> None:
    """As if `seconds` had gone by, in which nobody ticked: all that is stored is that much older."""
    for statement in (
        "update atlasqueue.leader set ticked_at = ticked_at - %(gone)s * interval '1 s'",
        "update atlasqueue.sessions set expires_at = expires_at - %(gone)s * interval '1 s'",
        "update atlasqueue.leased set deadline_at = deadline_at - %(gone)s * interval '1 s',"
        " leased_at = leased_at - %(gone)s * interval '1 s'",
    ):
        await execute(connection, statement, gone=seconds)


async def hear_session(connection: Any, timeout_s: int) -> None:
    """As if the session's heartbeat had just been answered."""
    await execute(
        connection,
        "update atlasqueue.sessions set expires_at = clock_timestamp() + %(s)s * interval '1 s'",
        s=timeout_s,
    )


@pytest.fixture
async def running(database: Database) -> Standing:
    """A job with a deadline, leased to a live session (30 s)."""
    return await Factory(database, "mail").job_in(State.LEASED, deadline_ms=60_000)


async def time_left(connection: Any, standing: Standing) -> tuple[float, float]:
    """Seconds left of the session and of the deadline."""
    rows = await execute(
        connection,
        "select extract(epoch from s.expires_at - clock_timestamp())::float8,"
        " extract(epoch from l.deadline_at - clock_timestamp())::float8"
        " from atlasqueue.sessions s join atlasqueue.leased l using (session_id)"
        " where l.fence = %(fence)s",
        fence=standing.fence,
    )
    return rows[0]


async def expire_all(database: Database, term: Term) -> None:
    """Everything that takes leases by the clock."""
    signals = Signals()
    await Expire(database, signals).tick(term)
    await FailOverdue(database, signals).tick(term)


async def is_leased(connection: Any) -> bool:
    return bool(await execute(connection, "select fence from atlasqueue.leased"))


async def test_after_an_outage_live_sessions_and_deadlines_have_what_they_had(
    database: Database, connection: Any, running: Standing
) -> None:
    await tick_as(database, connection, "a")
    before = await time_left(connection, running)
    await pass_without_ticks(connection, 4 * 30)
    assert max(await time_left(connection, running)) < 0
    # Another server, another term: nothing expires before its first tick, whichever loop is first.
    term = await take(database, connection, "b")
    await expire_all(database, term)
    assert await is_leased(connection)
    await Tick(database, LEASE_S).tick(term)
    after = await time_left(connection, running)
    assert after == pytest.approx(before, abs=5)
    await expire_all(database, term)
    assert await is_leased(connection)


async def test_a_worker_that_was_dead_before_the_outage_gets_nothing_out_of_it(
    database: Database, connection: Any, running: Standing
) -> None:
    await tick_as(database, connection, "a")
    await execute(connection, "update atlasqueue.sessions set expires_at = now() - interval '1 s'")
    await pass_without_ticks(connection, 600)
    await expire_all(database, await tick_as(database, connection, "b"))
    assert not await is_leased(connection)


@pytest.mark.parametrize("who", ["another server", "the same one again"])
async def test_a_change_of_leader_gives_no_grace(
    database: Database, connection: Any, running: Standing, who: str
) -> None:
    tick = Tick(database, LEASE_S)
    await tick.tick(await take(database, connection, "a"))
    before = await time_left(connection, running)
    await pass_without_ticks(connection, OUTAGE_S - 2)
    newer = Tick(database, LEASE_S) if who == "another server" else tick
    await newer.tick(await take(database, connection, "b"))
    after = await time_left(connection, running)
    assert after[0] < before[0] - (OUTAGE_S - 3)
    assert after[1] < before[1] - (OUTAGE_S - 3)


async def test_under_one_term_a_shorter_gap_is_an_outage(
    database: Database, connection: Any, running: Standing
) -> None:
    """The database was restarted: the same leader goes on, and no change of leader explains the gap."""
    term = await take(database, connection, "a")
    tick = Tick(database, LEASE_S)
    await tick.tick(term)
    before = await time_left(connection, running)
    await pass_without_ticks(connection, limits.TICKED_WITHIN_S + 1)
    await expire_all(database, term)
    await tick.tick(term)
    assert await time_left(connection, running) == pytest.approx(before, abs=0.9)


async def test_what_was_heard_or_leased_in_the_gap_is_not_extended_by_all_of_it(
    database: Database, connection: Any, running: Standing
) -> None:
    await tick_as(database, connection, "a")
    await pass_without_ticks(connection, 600)
    # The session was heard just now, and its job leased just now, though nobody ticked.
    await hear_session(connection, 30)
    await execute(
        connection,
        "update atlasqueue.leased set leased_at = now(), deadline_at = now() + interval '60 s'",
    )
    await tick_as(database, connection, "b")
    session_s, deadline_s = await time_left(connection, running)
    assert session_s < 31
    assert deadline_s < 62


async def test_the_grace_takes_no_time_away(
    database: Database, connection: Any, running: Standing
) -> None:
    """A session whose timeout was made shorter meanwhile was told the longer one: it keeps that."""
    await tick_as(database, connection, "a")
    await pass_without_ticks(connection, 600)
    await hear_session(connection, 300)
    before = await time_left(connection, running)
    await tick_as(database, connection, "b")
    after = await time_left(connection, running)
    assert after[0] == pytest.approx(before[0], abs=60)


async def test_an_old_term_neither_ticks_nor_gives_grace(
    database: Database, connection: Any, running: Standing
) -> None:
    """A leader that was stopped while another led comes back: the other's ticks stand."""
    old = await take(database, connection, "a")
    stopped = Tick(database, LEASE_S)
    await stopped.tick(old)
    await take(database, connection, "b")
    await pass_without_ticks(connection, 600)
    before = await time_left(connection, running)
    rows = await execute(connection, "select * from atlasqueue.leader")
    await stopped.tick(old)
    assert await execute(connection, "select * from atlasqueue.leader") == rows
    assert (await time_left(connection, running))[0] <= before[0]
