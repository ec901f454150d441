"""The database goes away: restarts, terminated backends, no connections left, silence between servers."""

from __future__ import annotations

import asyncio

import psycopg

from tests.chaos.arena import Arena
from tests.chaos.load import load
from tests.chaos.scenarios import scenario

SERVERS_BACKENDS = "usename like 'server\\_%%' and pid <> pg_backend_pid()"


# An outage gets no grace below 2 s, nor below leader lease + 5 s when the leader changes: the visibility
# timeout must leave room for that (docs/faults.md), or living workers are lost.
ROOMY_S = 10.0


@scenario(
    "restart_postgres",
    "PostgreSQL stopped with immediate and started, ten times",
    visibility_timeout_s=ROOMY_S,
)
async def restart_postgres(arena: Arena) -> None:
    """No acknowledged job is lost, and no server or worker process has to be started again."""
    times = arena.of(3, 10)
    async with load(arena, arena.of(300, 6000)) as jobs:
        for number in range(times):
            await jobs.completed((number + 1) / (times + 1))
            arena.strike(f"immediate restart {number + 1}")
            await arena.restart_postgres(down_s=arena.random.uniform(0, 1))
    assert not jobs.errors, jobs.errors


@scenario(
    "terminate_backends",
    "pg_terminate_backend of every server connection",
    visibility_timeout_s=ROOMY_S,
)
async def terminate_backends(arena: Arena) -> None:
    """Connections die in the middle of everything; pools make new ones."""
    times = arena.of(3, 10)
    async with load(arena, arena.of(300, 5000)) as jobs:
        for number in range(times):
            await jobs.completed((number + 1) / (times + 1))
            rows = await arena.sql(
                f"select pg_terminate_backend(pid) from pg_stat_activity where {SERVERS_BACKENDS}"
            )
            arena.strike(f"{len(rows)} backends terminated")
            arena.recovers()
    assert not jobs.errors, jobs.errors


@scenario(
    "exhaust_connections",
    "every free connection of PostgreSQL is taken by others",
    visibility_timeout_s=ROOMY_S,
)
async def exhaust_connections(arena: Arena) -> None:
    """Servers lose their connections and get no new ones for a while."""
    async with load(arena, arena.of(250, 3000)) as jobs:
        await jobs.completed(0.3)
        taken = await _take_connections(arena)
        try:
            await arena.sql(
                f"select pg_terminate_backend(pid) from pg_stat_activity where {SERVERS_BACKENDS}"
            )
            taken += await _take_connections(arena)
            arena.strike(f"{len(taken)} connections taken, servers cut off")
            await asyncio.sleep(arena.of(2, 4))
        finally:
            for connection in taken:
                await connection.close()
        arena.recovers()
    assert not jobs.errors, jobs.errors


async def _take_connections(arena: Arena) -> list[psycopg.AsyncConnection[tuple[object, ...]]]:
    """As many as ordinary roles can have, and the reserved ones but for two."""
    taken = []
    while len(taken) < 150:
        try:
            connection = await psycopg.AsyncConnection.connect(arena.url, connect_timeout=5)
        except psycopg.OperationalError:
            break
        taken.append(connection)
    # The test itself needs one to look at the leader, another to terminate backends.
    for connection in taken[-2:]:
        await connection.close()
    return taken[:-2]


@scenario("silence_notify", "LISTEN/NOTIFY silenced", servers=3)
async def silence_notify(arena: Arena) -> None:
    """Every LISTEN connection is ended again and again; what is left is the poll, and latency."""
    async with load(arena, arena.of(250, 3000)) as jobs:
        await jobs.completed(0.2)
        arena.strike("LISTEN connections ended every 50 ms")
        silence = asyncio.create_task(_silence(arena))
        await jobs.completed(0.9)
        silence.cancel()
        await asyncio.gather(silence, return_exceptions=True)
        arena.recovers()
    assert not jobs.errors, jobs.errors


async def _silence(arena: Arena) -> None:
    async with await psycopg.AsyncConnection.connect(arena.url, autocommit=True) as connection:
        while True:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'atlasqueue-listen'"
            )
            await asyncio.sleep(0.05)


@scenario("late_commit", "an enqueue that commits 15 s late, behind the watermark")
async def late_commit(arena: Arena) -> None:
    """Rows appear in ready below what was claimed long ago; a sweep must find them."""
    count = 20
    async with load(arena, arena.of(200, 2000)) as jobs:
        await jobs.completed(0.2)
        arena.strike(f"{count} rows committed {arena.of(6, 15)} s late")
        await _enqueue_late(arena, count, late_s=arena.of(6, 15))
        arena.recovers()
    assert not jobs.errors, jobs.errors


async def _enqueue_late(arena: Arena, count: int, *, late_s: float) -> None:
    async with await psycopg.AsyncConnection.connect(arena.url) as connection:
        await connection.execute(
            """
            with body as (
                insert into atlasqueue.jobs (queue, job_id, kind, priority, payload, ready_seq)
                select
                    'chaos', gen_random_uuid(), 'work', 3, '{"ms": 1, "first": "ok"}',
                    nextval('atlasqueue.ready_seq')
                from generate_series(1, %(count)s)
                returning queue, job_id, priority, ready_seq
            )
            insert into atlasqueue.ready (
                queue, priority, seq, job_id, attempt, crashes, deliveries, fence, cause
            )
            select queue, priority, ready_seq, job_id, 0, 0, 0, 0, 'e' from body
            """,
            {"count": count},
        )
        await asyncio.sleep(late_s)
        await connection.commit()
