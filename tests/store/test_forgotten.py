"""What a crash left behind is tidied up, and nothing else."""

from __future__ import annotations

from typing import Any

from atlasqueue_server.model.states import State
from atlasqueue_server.scheduler.expire import AdoptOrphans
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term, expire_leases_if_leader
from tests.factories import Factory, execute


async def test_only_sessions_that_were_lost_long_ago_and_hold_nothing_are_forgotten(
    database: Database, connection: Any, factory: Factory, term: Term
) -> None:
    """It showed when the statement was broken on purpose: no test had a session that had to stay."""
    long_ago = "set expires_at = now() - interval '61 s'"
    sessions = {
        "gone": f"{long_ago}, lost = true",
        "silent": long_ago,
        "lost just now": "set lost = true, expires_at = now() - interval '50 s'",
        "alive": "set slots = 10",
    }
    ids = {name: (await factory.session()).session_id for name in sessions}
    ids["holds a job"] = (await factory.job_in(State.LEASED)).session_id
    sessions["holds a job"] = sessions["gone"]
    for name, change in sessions.items():
        await execute(
            connection,
            f"update atlasqueue.sessions {change} where session_id = %(session_id)s",
            session_id=ids[name],
        )
    await AdoptOrphans(database).tick(term)
    left = {
        row[0] for row in await execute(connection, "select session_id from atlasqueue.sessions")
    }
    assert {name for name in ids if ids[name] in left} == set(ids) - {"gone"}


async def test_a_lease_without_a_session_expires(
    database: Database, connection: Any, factory: Factory, term: Term
) -> None:
    """A backup may hold a lease and not its session."""
    orphan, held = await factory.job_in(State.LEASED), await factory.job_in(State.LEASED)
    await execute(
        connection,
        "delete from atlasqueue.sessions where session_id = %(session_id)s",
        session_id=orphan.session_id,
    )
    await AdoptOrphans(database).tick(term)
    await expire_leases_if_leader(database, term, 10)
    assert await execute(connection, "select fence from atlasqueue.leased") == [(held.fence,)]


async def test_only_servers_that_were_not_seen_for_a_minute_are_forgotten(
    database: Database, connection: Any, term: Term
) -> None:
    await execute(
        connection,
        "insert into atlasqueue.servers (server_id, seen_at, address, version)"
        " select s::text, now() - s * interval '1 s', '', '' from unnest(array[0, 50, 61]) s",
    )
    await AdoptOrphans(database).tick(term)
    left = await execute(connection, "select server_id from atlasqueue.servers order by 1")
    assert left == [("0",), ("50",)]
