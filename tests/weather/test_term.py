"""An old term changes no row: every statement of the scheduler, its DDL, and a leader forced on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from atlasqueue_server.domain.jobs import NIL
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.jobs import OutcomeKind
from atlasqueue_server.model.states import State
from atlasqueue_server.scheduler.expire import AdoptOrphans, Expire, FailOverdue
from atlasqueue_server.scheduler.loop import Loop
from atlasqueue_server.scheduler.promote import Promote
from atlasqueue_server.scheduler.prune import Partitions, Prune
from atlasqueue_server.scheduler.tick import Tick
from atlasqueue_server.store import scheduler
from atlasqueue_server.store.database import Database, send
from atlasqueue_server.store.scheduler import Term
from atlasqueue_server.store.statements import names
from tests.factories import Factory, execute, snapshot, take_term_by_force

AHEAD = datetime.now(UTC).date() + timedelta(days=30)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Act = Callable[[Database, Term], Awaitable[object]]


async def _prune_bodies(database: Database, term: Term) -> None:
    found = await scheduler.find_finished_to_prune(database, AHEAD, ("", NIL), 10)
    ids = [job_id for _, job_id in found]
    await scheduler.prune_bodies_if_leader(database, term, "mail", ids, AHEAD)


# Every act of the scheduler; each has something to do in the scene below.
ACTS: dict[str, Act] = {
    "tick_if_leader": lambda d, t: scheduler.tick_if_leader(d, t, 9.0, 1e6),
    "extend_by_outage_if_leader": lambda d, t: scheduler.extend_by_outage_if_leader(d, t, 0.0),
    "renew_leadership_if_leader": lambda d, t: scheduler.renew_leadership_if_leader(d, t, 9.0),
    "resign_leadership_if_leader": scheduler.resign_leadership_if_leader,
    "lose_sessions_if_leader": lambda d, t: scheduler.lose_sessions_if_leader(d, t, 10),
    "expire_leases_if_leader": lambda d, t: scheduler.expire_leases_if_leader(d, t, 10),
    "fail_overdue_jobs_if_leader": lambda d, t: scheduler.fail_overdue_jobs_if_leader(d, t, 10),
    "adopt_orphans_if_leader": scheduler.adopt_orphans_if_leader,
    "delete_lost_sessions_if_leader": scheduler.delete_lost_sessions_if_leader,
    "forget_dead_servers_if_leader": scheduler.forget_dead_servers_if_leader,
    "promote_jobs_if_leader": lambda d, t: scheduler.promote_jobs_if_leader(
        d, t, "mail", EPOCH, 10
    ),
    "fold_depths_if_leader": scheduler.fold_depths_if_leader,
    "prune_bodies_if_leader": _prune_bodies,
    "delete_default_finished_if_leader": lambda d, t: scheduler.delete_default_finished_if_leader(
        d, t, AHEAD, 10
    ),
    "prune_dead_letters_if_leader": lambda d, t: scheduler.prune_dead_letters_if_leader(
        d, t, 1, 10
    ),
    # Both kinds of DDL stand behind this one.
    "lock_term_if_leader": lambda d, t: scheduler.create_finished_partition_if_leader(
        d, t, "finished_20990101", date(2099, 1, 1), date(2099, 1, 2)
    ),
}


def test_every_statement_of_the_scheduler_is_tried_here() -> None:
    assert {name for name in names() if name.endswith("_if_leader")} == set(ACTS)


@pytest.fixture
async def scene(database: Database, connection: Any) -> Factory:
    """Something for every act to do: due, overdue, lost, orphaned, dead, finished and gone."""
    factory = Factory(database, "mail")
    for place in (State.SCHEDULED, State.DEAD, State.SUCCEEDED):
        await factory.job_in(place)
    leased = [await factory.job_in(State.LEASED) for _ in range(3)]
    sessions = [await factory.session() for _ in range(2)]
    ids = {
        "overdue": leased[0].fence,
        "lost": leased[1].session_id,
        "orphan": leased[2].session_id,
        "silent": sessions[0].session_id,
        "gone": sessions[1].session_id,
    }
    for statement in (
        "update atlasqueue.scheduled set run_at = now() - interval '1 h'",
        "update atlasqueue.dead_letters set died_at = now() - interval '90 d'",
        "update atlasqueue.leased set deadline_at = now() - interval '1 s' where fence = %(overdue)s",
        "update atlasqueue.sessions set lost = true where session_id = %(lost)s",
        "delete from atlasqueue.sessions where session_id = %(orphan)s",
        "update atlasqueue.sessions set expires_at = now() - interval '1 s'"
        " where session_id = %(silent)s",
        "update atlasqueue.sessions set lost = true, expires_at = now() - interval '1 d'"
        " where session_id = %(gone)s",
        "insert into atlasqueue.servers (server_id, seen_at, address, version)"
        " values ('old', now() - interval '1 d', '', '')",
    ):
        await execute(connection, statement, **ids)
    return factory


async def _partitions(connection: Any) -> list[tuple[Any, ...]]:
    statement = "select relname from pg_inherits join pg_class on oid = inhrelid order by 1"
    return await execute(connection, statement)


@pytest.mark.parametrize("name", sorted(ACTS))
async def test_an_old_term_changes_no_row(
    database: Database, connection: Any, scene: Factory, name: str
) -> None:
    """Under the old term nothing moves; under the new one the same call does move something."""
    old = await take_term_by_force(database.url, "older")
    new = await take_term_by_force(database.url, "newer")
    if name == "extend_by_outage_if_leader":
        await execute(connection, "update atlasqueue.leader set ticked_at = now() - interval '1 m'")
    before = await snapshot(connection), await _partitions(connection)
    for term in (old, Term(old.term, new.holder), Term(new.term, old.holder)):
        await ACTS[name](database, term)
        assert (await snapshot(connection), await _partitions(connection)) == before
    await ACTS[name](database, new)
    assert (await snapshot(connection), await _partitions(connection)) != before


async def test_an_old_term_drops_no_day(database: Database, connection: Any) -> None:
    old = await take_term_by_force(database.url, "older")
    new = await take_term_by_force(database.url, "newer")
    day = "finished_20010203", date(2001, 2, 3), date(2001, 2, 4)
    assert await scheduler.create_finished_partition_if_leader(database, new, *day)
    assert not await scheduler.drop_finished_partition_if_leader(database, old, day[0])
    assert (day[0],) in await _partitions(connection)
    assert await scheduler.drop_finished_partition_if_leader(database, new, day[0])
    assert (day[0],) not in await _partitions(connection)


async def test_a_new_term_waits_for_a_statement_of_the_old_one(
    database: Database, connection: Any, scene: Factory
) -> None:
    """A statement under way holds the term: what it changes is committed before a newer term exists.

    It showed as an expiry that committed after another leader had taken over: the check of the term
    read the row and did not hold it.
    """
    old = await take_term_by_force(database.url, "older")
    async with database.connection() as busy, busy.transaction():
        params = old.params | {"batch": 10, "ticked_within_s": 2.0}
        await send(busy, "lose_sessions_if_leader", params)
        taking = asyncio.create_task(take_term_by_force(database.url, "newer"))
        done, _ = await asyncio.wait({taking}, timeout=0.3)
        assert not done
    assert (await taking).term == old.term + 1


async def test_of_two_that_take_the_lead_at_once_one_gets_it(
    database: Database, connection: Any
) -> None:
    """Both have seen a lease that is over; the second waits for the first, and then looks again."""
    await take_term_by_force(database.url, "older")
    await execute(connection, "update atlasqueue.leader set expires_at = now() - interval '1 s'")
    async with database.connection() as first, first.transaction():
        await send(first, "take_leadership_if_free", {"holder": "a", "lease_s": 60.0})
        second = asyncio.create_task(scheduler.take_leadership_if_free(database, "b", 60.0))
        done, _ = await asyncio.wait({second}, timeout=0.3)
        assert not done
    assert await second is None
    leader = await execute(connection, "select term, holder from atlasqueue.leader")
    assert leader == [(2, "a")]


async def test_a_tick_waits_for_no_statement_of_its_leader(
    database: Database, connection: Any, scene: Factory
) -> None:
    """A statement of a loop that takes long holds the term, and holds up neither tick nor renewal.

    It showed as a prune on a slow disk: ticks waited for its row lock, and after 2 s each was an outage, whose
    grace kept the leases of dead workers; after 5 s the lead was lost and the statement cancelled, to begin again.
    """
    term = await take_term_by_force(database.url)
    async with database.connection() as busy, busy.transaction():
        await send(busy, "lock_term_if_leader", term.params)
        async with asyncio.timeout(5):
            assert await scheduler.tick_if_leader(database, term, 9.0, 1e6) is not None
            assert await scheduler.renew_leadership_if_leader(database, term, 9.0)
            await scheduler.resign_leadership_if_leader(database, term)
        taking = asyncio.create_task(scheduler.take_leadership_if_free(database, "newer", 9.0))
        done, _ = await asyncio.wait({taking}, timeout=0.3)
        assert not done
    newer = await taking
    assert newer is not None
    assert newer.term == term.term + 1


def _loops(database: Database, signals: Signals) -> list[Loop]:
    return [
        Tick(database),
        Expire(database, signals),
        FailOverdue(database, signals),
        Promote(database, signals),
        AdoptOrphans(database),
        Partitions(database),
        Prune(database),
    ]


async def test_two_leaders_at_once_break_nothing(database: Database, connection: Any) -> None:
    """Both run all loops as fast as they can; each job moves once, under the newer term alone."""
    factory = Factory(database, "mail")
    signals = Signals()
    old = await take_term_by_force(database.url, "older")
    new = await take_term_by_force(database.url, "newer")
    session = await factory.session(slots=200)
    await factory.enqueue_many(200)
    leased = await factory.lease(session.session_id, 200)
    assert len(leased) == 200
    await execute(
        connection,
        "update atlasqueue.sessions set expires_at = now() - interval '1 s'"
        " where session_id = %(id)s",
        id=session.session_id,
    )

    async def lead(term: Term) -> None:
        for _ in range(5):
            for loop in _loops(database, signals):
                while await loop.tick(term):
                    pass

    await asyncio.gather(lead(old), lead(new), lead(old), lead(new))
    rows = await execute(
        connection, "select count(*), count(distinct fence) from atlasqueue.failures"
    )
    assert rows == [(200, 200)]
    # Each crash was counted once, and each job stands in one place.
    rows = await execute(
        connection,
        "select count(*), min(crashes), max(crashes) from (select job_id, crashes from"
        " atlasqueue.scheduled union all select job_id, crashes from atlasqueue.ready) places",
    )
    assert rows == [(200, 1, 1)]
    assert await factory.report(leased[0].job_id, leased[0].fence, OutcomeKind.COMPLETE) is None
