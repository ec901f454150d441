"""A few jobs for which a worker waits are enqueued and leased in one transaction, by the same rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from atlasqueue_server.domain import lease
from atlasqueue_server.domain.dispatch import Dispatcher
from atlasqueue_server.domain.enqueue import LEASED_AT_ONCE_MAX, Enqueuer
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.sessions import JobsLeased, OpenSession
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.errors import DatabaseUnavailable, JobIdConflict
from atlasqueue_server.model.jobs import NewJob
from atlasqueue_server.store import database as store_database
from atlasqueue_server.store.database import Database
from tests.factories import Factory, execute, new_job, open_database
from tests.waiting import eventually, eventually_so

QUEUE = "mail"
END_BACKEND = """
create function public.end_backend() returns trigger language plpgsql as
    $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
create trigger end_backend before insert on atlasqueue.leased
    for each row execute function public.end_backend()
"""


@dataclass
class Process:
    """What one server process enqueues and leases with, and a connection that looks on."""

    database: Database
    signals: Signals
    queues: Queues
    dispatcher: Dispatcher
    enqueuer: Enqueuer
    looker_on: Any

    @property
    def factory(self) -> Factory:
        """Makes jobs behind the process's back."""
        return Factory(self.database, QUEUE)

    async def waiting_worker(self, slots: int = 10) -> OpenSession:
        """An open stream, whose lane has looked and found nothing."""
        await self.queues.ensure([QUEUE])
        session = await self.factory.session(slots)
        opened = self.dispatcher.add(session, (QUEUE,), slots, streaming=True)
        await opened.looked.wait()
        await eventually_so(lambda: self.dispatcher.free_lane(QUEUE))
        return opened

    async def enqueue(self, *jobs: NewJob) -> None:
        """Stores jobs that nothing is wrong with."""
        assert await self.enqueuer.enqueue(jobs) == [None] * len(jobs)

    async def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Looks on."""
        return await execute(self.looker_on, statement)

    async def ids_in(self, table: str) -> set[str]:
        """Which jobs stand in a table."""
        return {str(job_id) for (job_id,) in await self.sql(f"select job_id from {table}")}

    @asynccontextmanager
    async def stored_by_another(self, job: NewJob) -> AsyncIterator[None]:
        """Within, enqueues of the same id wait; then they find that nobody has stored it."""
        async with await psycopg.AsyncConnection.connect(self.database.url) as other:
            await execute(
                other,
                "insert into atlasqueue.jobs (queue, job_id, kind, priority, payload)"
                " values ('mail', %(id)s, 'email', 3, '')",
                id=job.job_id,
            )
            yield
            await other.rollback()

    async def one_waits(self) -> None:
        """Returns when a statement waits for another's row."""

        async def waits() -> bool:
            rows = await self.sql(
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
            return rows == [(1,)]

        await eventually(waits)


@pytest.fixture
async def process(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Process]:
    """A process that leases only when there is a sign of jobs: its poll must not come between."""
    monkeypatch.setattr(lease, "POLL_S", 3600.0)
    # On a busy machine what is held up on purpose must not be given up.
    for timeout in ("lock_timeout", "statement_timeout"):
        monkeypatch.setitem(store_database.SESSION_SETTINGS, timeout, "60s")
    async with (
        open_database(migrated_database_url) as database,
        await psycopg.AsyncConnection.connect(migrated_database_url, autocommit=True) as looker_on,
    ):
        signals = Signals()
        queues = Queues(database, signals)
        dispatcher = Dispatcher(database, signals)
        enqueuer = Enqueuer(database, queues, signals, dispatcher.free_lane)
        yield Process(database, signals, queues, dispatcher, enqueuer, looker_on)
        await enqueuer.close()
        await dispatcher.close()


async def _delivered(opened: OpenSession) -> list[str]:
    event = await opened.next_event(20)
    assert isinstance(event, JobsLeased)
    return [row.job_id for row in event.rows]


async def test_a_lone_job_is_one_transaction_and_no_other_server_hears_of_it(
    process: Process,
) -> None:
    opened = await process.waiting_worker()
    job = new_job(QUEUE)
    await process.enqueue(job)
    assert await _delivered(opened) == [job.job_id]
    assert await process.sql("select xmin::text from atlasqueue.jobs") == await process.sql(
        "select xmin::text from atlasqueue.leased"
    )
    assert await process.ids_in("atlasqueue.ready") == set()
    assert process.signals.take_message("own") is None
    assert (opened.reserved, opened.credit) == (0, opened.slots - 1)
    assert process.dispatcher.free_lane(QUEUE)


async def test_many_jobs_do_not_wait_for_a_lease(process: Process) -> None:
    opened = await process.waiting_worker(slots=2 * LEASED_AT_ONCE_MAX)
    await process.enqueue(*(new_job(QUEUE) for _ in range(LEASED_AT_ONCE_MAX + 1)))
    assert await _delivered(opened)
    (both,) = await process.sql(
        "select count(*) from atlasqueue.jobs j join atlasqueue.leased l using (queue, job_id)"
        " where j.xmin = l.xmin"
    )
    assert both == (0,)


async def test_what_has_priority_is_leased_instead(process: Process) -> None:
    opened = await process.waiting_worker(slots=1)
    (urgent,) = await process.factory.enqueue_many(1, priority=1)
    job = new_job(QUEUE, priority=5)
    await process.enqueue(job)
    assert await _delivered(opened) == [urgent.job_id]
    assert await process.ids_in("atlasqueue.ready") == {job.job_id}
    # Other servers may have workers for the one that is left.
    assert QUEUE in (process.signals.take_message("own") or "")


async def test_a_lost_database_leaves_nothing_half_done(process: Process) -> None:
    opened = await process.waiting_worker()
    await process.looker_on.execute(END_BACKEND)
    job = new_job(QUEUE)
    with pytest.raises(DatabaseUnavailable):
        await process.enqueuer.enqueue([job])
    assert await process.ids_in("atlasqueue.jobs") == set()
    await eventually_so(lambda: (opened.reserved, opened.credit) == (0, opened.slots))
    await process.looker_on.execute("drop trigger end_backend on atlasqueue.leased")
    await process.enqueue(job)
    assert await _delivered(opened) == [job.job_id]


async def test_a_paused_queue_is_not_leased(process: Process) -> None:
    opened = await process.waiting_worker()
    await process.queues.pause(QUEUE)
    job = new_job(QUEUE)
    await process.enqueue(job)
    assert await process.ids_in("atlasqueue.ready") == {job.job_id}
    assert await process.ids_in("atlasqueue.leased") == set()
    await process.queues.resume(QUEUE)
    assert await _delivered(opened) == [job.job_id]


async def test_a_job_whose_body_is_lost_is_buried_and_holds_up_nobody(process: Process) -> None:
    """Its row without a payload made the lane fail: what was leased with it reached no worker."""
    opened = await process.waiting_worker()
    (lost,) = await process.factory.enqueue_many(1)
    await process.looker_on.execute("delete from atlasqueue.jobs")
    job = new_job(QUEUE)
    await process.enqueue(job)
    assert await _delivered(opened) == [job.job_id]

    async def buried() -> bool:
        return await process.ids_in("atlasqueue.dead_letters") == {lost.job_id}

    await eventually(buried)
    await eventually_so(lambda: opened.credit == opened.slots - 1)


async def test_a_draining_process_stores_and_does_not_lease(process: Process) -> None:
    await process.waiting_worker()
    process.dispatcher.drain()
    job = new_job(QUEUE)
    await process.enqueue(job)
    assert await process.ids_in("atlasqueue.ready") == {job.job_id}


async def test_a_session_that_has_ended_meanwhile_gives_back(process: Process) -> None:
    opened = await process.waiting_worker()
    job = new_job(QUEUE)
    async with process.stored_by_another(job):
        call = asyncio.create_task(process.enqueue(job))
        await process.one_waits()
        process.dispatcher.remove(opened)
    await call

    async def given_back() -> bool:
        rows = await process.sql("select job_id::text, deliveries, attempt from atlasqueue.ready")
        return rows == [(job.job_id, 1, 0)]

    await eventually(given_back)


async def test_a_call_does_not_wait_for_a_lane_that_leases(process: Process) -> None:
    opened = await process.waiting_worker()
    lane = process.dispatcher.free_lane(QUEUE)
    assert lane
    job = new_job(QUEUE)
    with lane.flight():
        assert process.dispatcher.free_lane(QUEUE) is None
        await process.enqueue(job)
        # By the lane's own statement, with the credit that is left.
        assert await _delivered(opened) == [job.job_id]
    assert await process.sql("select xmin::text from atlasqueue.jobs") != await process.sql(
        "select xmin::text from atlasqueue.leased"
    )


async def test_an_id_that_is_stored_already_is_answered_as_ever(process: Process) -> None:
    opened = await process.waiting_worker()
    job = new_job(QUEUE)
    await process.enqueue(job, job)
    await process.enqueue(job)
    (error,) = await process.enqueuer.enqueue([job._replace(payload=b"to: bob")])
    assert isinstance(error, JobIdConflict)
    assert await _delivered(opened) == [job.job_id]
    assert opened.credit == opened.slots - 1


async def test_a_session_may_end_while_the_process_closes(process: Process) -> None:
    """Its lane went while the lanes were walked, and the rest of the stop was left undone."""
    await process.waiting_worker()
    lane = process.dispatcher.free_lane(QUEUE)
    assert lane
    await process.queues.ensure(["post"])
    other = process.dispatcher.add(
        await Factory(process.database, "post").session(), ("post",), 1, streaming=True
    )
    with lane.flight():
        closing = asyncio.create_task(process.dispatcher.close())
        await asyncio.sleep(0)
        process.dispatcher.remove(other)
    await closing
    assert process.dispatcher.lanes == 0
