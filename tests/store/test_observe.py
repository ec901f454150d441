"""The reading of the database that /metrics shows, on PostgreSQL 18 and 15."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from atlasqueue_server.domain.observe import Observer
from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.model.states import State
from atlasqueue_server.store import observe as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term
from tests.factories import Factory, execute
from tests.waiting import eventually


async def test_it_counts_what_stands_where(
    database: Database, connection: Any, factory: Factory, term: Term
) -> None:
    # A term of the tests has ticked in all eternity.
    await execute(connection, "update atlasqueue.leader set ticked_at = now()")
    for state in (State.SCHEDULED, State.DEAD, State.SUCCEEDED):
        await factory.job_in(state)
    await factory.enqueue_many(2)
    reading = await store.observe(database)
    (queue,) = reading.queues
    assert (queue.name, queue.ready, queue.scheduled) == ("mail", 2, 1)
    assert (queue.dead, queue.succeeded, queue.leased) == (1, 1, 0)
    assert not queue.estimated
    assert (reading.cluster.leader, reading.cluster.term) == (True, term.term)
    assert reading.postgres.database_bytes > 0
    assert {"ready", "finished"} <= {table.name for table in reading.tables}


async def test_the_oldest_ready_job_is_found_in_any_priority(
    database: Database, connection: Any, factory: Factory
) -> None:
    for minutes, priority in ((1, 1), (60, 4), (2, 5)):
        job = await factory.enqueue(priority=priority)
        await execute(
            connection,
            f"update atlasqueue.jobs set created_at = now() - interval '{minutes} min'"
            f" where job_id = '{job.job_id}'",
        )
    (queue,) = (await store.observe(database)).queues
    assert queue.oldest_ready_s == pytest.approx(3600, abs=60)


async def test_too_many_deltas_make_an_estimate(
    database: Database, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "DELTAS_MAX", 2)
    for _ in range(3):
        await factory.enqueue()
    (queue,) = (await store.observe(database)).queues
    assert queue.estimated


async def test_an_open_transaction_of_another_holds_xmin(
    database: Database, connection: Any, factory: Factory
) -> None:
    await connection.execute("begin isolation level repeatable read")
    await connection.execute("select 1")
    for _ in range(5):
        await factory.enqueue()
    postgres = (await store.observe(database)).postgres
    await connection.execute("rollback")
    assert (postgres.xmin_age or 0) >= 5
    assert (postgres.oldest_transaction_s or 0) > 0


async def test_who_has_written_and_waits_holds_xmin_too(
    database: Database, connection: Any, factory: Factory
) -> None:
    """How it showed: idle in a transaction it has an id and no snapshot, and the age stayed at nothing."""
    await connection.execute("begin")
    await connection.execute("select pg_current_xact_id()")
    for _ in range(5):
        await factory.enqueue()
    postgres = (await store.observe(database)).postgres
    await connection.execute("rollback")
    assert (postgres.xmin_age or 0) >= 5


async def test_another_database_and_a_vacuum_hold_nothing(
    database: Database, connection: Any, factory: Factory, any_postgres_url: str
) -> None:
    """How it showed: the alert named a report in a database beside, which keeps no row here."""
    await execute(connection, "create table slow as select n from generate_series(1, 100000) n")
    await connection.execute("set vacuum_cost_delay = 100")
    await connection.execute("set vacuum_cost_limit = 1")
    async with (
        await psycopg.AsyncConnection.connect(any_postgres_url) as beside,
        # Within a transaction PostgreSQL shows the same activity again and again.
        await psycopg.AsyncConnection.connect(any_postgres_url, autocommit=True) as looker,
    ):
        await beside.execute("select pg_current_xact_id()")
        connections = (await store.observe(database)).postgres.connections
        vacuuming = asyncio.create_task(connection.execute("vacuum slow"))
        try:

            async def begun() -> Any:
                cursor = await looker.execute("select 1 from pg_stat_progress_vacuum")
                return await cursor.fetchone()

            await eventually(begun)
            for _ in range(5):
                await factory.enqueue()
            postgres = (await store.observe(database)).postgres
        finally:
            connection.cancel()
            with pytest.raises(psycopg.errors.QueryCanceled):
                await vacuuming
    assert (postgres.xmin_age or 0) < 5
    assert postgres.oldest_transaction_s is None
    assert connections >= 3, "those to other databases count"


async def test_scrapes_share_a_reading_and_a_failed_one_is_counted(
    database: Database, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer = Observer(database)
    await observer.refresh()
    first = observer.reading
    await observer.refresh()
    assert first is not None
    assert observer.reading is first

    async def fail(_database: Database) -> store.Reading:
        raise DatabaseUnavailable("it does not answer")

    monkeypatch.setattr(store, "observe", fail)
    other = Observer(database)
    await other.refresh()
    assert (other.failed, other.reading) == (1, None)
