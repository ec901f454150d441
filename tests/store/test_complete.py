"""complete in columns: ids as bytes, in any order."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from atlasqueue_server.model.columns import CompletedJobs
from atlasqueue_server.store import arrays
from atlasqueue_server.store import database as store_database
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.lease import LeasedRow
from atlasqueue_server.store.report import complete_jobs_if_fenced
from tests.factories import Factory, execute
from tests.waiting import eventually


def columns(rows: Sequence[LeasedRow]) -> CompletedJobs:
    """That these have succeeded without a result."""
    return CompletedJobs(
        "mail", b"".join(row.id_bytes for row in rows), [row.fence for row in rows]
    )


async def leased(factory: Factory, count: int) -> list[LeasedRow]:
    """New jobs, leased, by ascending id."""
    await factory.enqueue_many(count)
    session = await factory.session()
    rows = await factory.lease(session.session_id, count)
    return sorted(rows, key=lambda row: row.id_bytes)


async def test_same_jobs_in_another_order_do_not_deadlock(
    database: Database, connection: Any, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers' columns with the same jobs, one in reverse, are both on their way when the middle one is freed.

    If each deleted in its own order, each would hold what the other needs next.
    """
    monkeypatch.setattr(store_database, "TRANSIENT_TRIES", 1)
    rows = await leased(factory, 5)
    async with await psycopg.AsyncConnection.connect(database.url) as holder:
        await execute(
            holder,
            "select from atlasqueue.leased where fence = %(fence)s for update",
            fence=rows[2].fence,
        )
        calls = [
            asyncio.create_task(complete_jobs_if_fenced(database, columns(order)))
            for order in (rows, rows[::-1])
        ]

        async def both_wait() -> bool:
            found = await execute(
                connection,
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'",
            )
            return found == [(2,)]

        await eventually(both_wait)
        await holder.rollback()
        moved = await asyncio.gather(*calls)
    assert sorted(len(fences) for fences in moved) == [0, 5]


async def test_those_that_moved_are_told_in_any_order(
    database: Database, connection: Any, factory: Factory
) -> None:
    rows = await leased(factory, 6)
    assert list(await complete_jobs_if_fenced(database, columns(rows[3:]))) == [
        row.fence for row in rows[3:]
    ]
    assert sorted(await complete_jobs_if_fenced(database, columns(rows[::-1]))) == sorted(
        row.fence for row in rows[:3]
    )
    assert list(await complete_jobs_if_fenced(database, columns(rows))) == []
    stored = await execute(
        connection, "select job_id, fence, state::text, result from atlasqueue.finished"
    )
    assert sorted(stored) == [(uuid.UUID(bytes=row.id_bytes), row.fence, "s", None) for row in rows]
    depth = "select sum(leased), sum(succeeded) from atlasqueue.depth_deltas"
    assert await execute(connection, depth) == [(0, 6)]


async def test_ids_leave_and_arrive_as_their_bytes(database: Database, factory: Factory) -> None:
    """Those at the ends of the order, and with bytes that text would have changed."""
    ids = sorted(
        [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1), uuid.UUID(bytes=b"\0\xff\r\n\\'\"%" * 2)]
    )
    for job_id in ids:
        await factory.enqueue(job_id=str(job_id))
    session = await factory.session()
    rows = await factory.lease(session.session_id, len(ids))
    assert {row.id_bytes for row in rows} == {job_id.bytes for job_id in ids}
    assert {row.job_id for row in rows} == {str(job_id) for job_id in ids}
    assert sorted(await complete_jobs_if_fenced(database, columns(rows))) == sorted(
        row.fence for row in rows
    )


async def test_an_array_of_ids_is_read_as_it_was_written(connection: Any) -> None:
    arrays.register(connection)
    ids = [uuid.uuid4() for _ in range(3)]
    for some in ids, ids[:1], []:
        sent = arrays.uuids_of_bytes(b"".join(job_id.bytes for job_id in some))
        assert await execute(connection, "select %(ids)s", ids=sent) == [(some,)]
