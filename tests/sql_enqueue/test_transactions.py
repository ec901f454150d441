"""A job that is enqueued by SQL exists exactly if its transaction commits."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel, errors

from atlasqueue_server.store.queues import create_queues_if_room
from tests.factories import execute, open_database, snapshot
from tests.waiting import eventually

ENQUEUE = "select atlasqueue.enqueue(queue => 'mail', kind => 'welcome')"
WITH_ID = (
    "select atlasqueue.enqueue('mail', 'welcome', job_id => %(id)s, payload => %(payload)s::bytea)"
)


async def _enqueue(connection: Any, job_id: uuid.UUID, payload: bytes = b"") -> uuid.UUID:
    ((stored,),) = await execute(connection, WITH_ID, id=job_id, payload=payload)
    assert isinstance(stored, uuid.UUID)
    return stored


async def _waits_for_a_lock(admin: Any, connection: Any) -> None:
    async def waits() -> bool:
        statement = "select wait_event_type from pg_stat_activity where pid = %(pid)s"
        return await execute(admin, statement, pid=connection.info.backend_pid) == [("Lock",)]

    await eventually(waits)


async def test_rolled_back_it_leaves_nothing(admin: Any, producer: Any) -> None:
    before = await snapshot(admin)
    await execute(producer, ENQUEUE)
    await execute(
        producer,
        "select atlasqueue.enqueue('later', 'k', '\\x01', run_at => now() + interval '1 day')",
    )
    assert await snapshot(admin) == before
    await producer.rollback()
    assert await snapshot(admin) == before


async def test_committed_it_is_all_there(admin: Any, producer: Any) -> None:
    ((job_id,),) = await execute(producer, ENQUEUE)
    await producer.commit()
    stored = await execute(
        admin,
        "select queue, j.job_id, j.kind, j.priority, j.ready_seq = r.seq from atlasqueue.jobs j"
        " join atlasqueue.ready r using (queue, job_id) join atlasqueue.queues q on q.name = queue",
    )
    assert stored == [("mail", job_id, "welcome", 3, True)]
    assert await execute(admin, "select from atlasqueue.new_queues") == []


async def test_a_savepoint_takes_back_what_came_after_it(admin: Any, producer: Any) -> None:
    ((kept,),) = await execute(producer, ENQUEUE)
    with pytest.raises(errors.InvalidParameterValue):
        async with producer.transaction():
            await execute(producer, "select atlasqueue.enqueue('other', 'k')")
            await execute(producer, ENQUEUE)
            await execute(producer, "select atlasqueue.enqueue('mail', '')")
    ((also_kept,),) = await execute(producer, ENQUEUE)
    await producer.commit()
    jobs = await execute(admin, "select job_id from atlasqueue.jobs order by job_id")
    assert jobs == [(kept,), (also_kept,)]
    assert await execute(admin, "select name from atlasqueue.queues") == [("mail",)]
    depth = "select sum(ready), sum(scheduled) from atlasqueue.depth_deltas"
    assert await execute(admin, depth) == [(2, 0)]


async def test_many_rows_of_one_statement(admin: Any, producer: Any) -> None:
    made = await execute(
        producer,
        "select atlasqueue.enqueue('mail', 'welcome', convert_to(n::text, 'UTF8'))"
        " from generate_series(1, 500) as n",
    )
    await producer.commit()
    stored = await execute(
        admin,
        "select j.job_id from atlasqueue.ready r join atlasqueue.jobs j using (queue, job_id)"
        " order by r.seq",
    )
    assert stored == made == sorted(made)


@pytest.mark.parametrize("first_commits", [True, False])
async def test_the_same_id_from_two_transactions_is_one_job(
    admin: Any, producer: Any, producer_url: str, first_commits: bool
) -> None:
    """The second waits for the first: it gets the first's job, or stores its own."""
    job_id = uuid.uuid4()
    await _enqueue(producer, job_id)
    async with await psycopg.AsyncConnection.connect(producer_url) as second:
        waiting = asyncio.create_task(_enqueue(second, job_id))
        await _waits_for_a_lock(admin, second)
        await (producer.commit() if first_commits else producer.rollback())
        assert await waiting == job_id
    for table in ("jobs", "ready"):
        assert await execute(admin, f"select job_id from atlasqueue.{table}") == [(job_id,)]


async def test_the_same_id_with_another_body_is_refused(
    admin: Any, producer: Any, producer_url: str
) -> None:
    job_id = uuid.uuid4()
    await _enqueue(producer, job_id, b"one")
    async with await psycopg.AsyncConnection.connect(producer_url) as second:
        waiting = asyncio.create_task(_enqueue(second, job_id, b"other"))
        await _waits_for_a_lock(admin, second)
        await producer.commit()
        with pytest.raises(errors.UniqueViolation, match="with another body") as refused:
            await waiting
    assert refused.value.diag.message_detail == "JOB_ID_CONFLICT"


async def test_under_repeatable_read_the_loser_has_to_run_again(
    admin: Any, producer: Any, producer_url: str
) -> None:
    """Its snapshot cannot see the winner, so PostgreSQL says what it says of every such conflict."""
    job_id = uuid.uuid4()
    async with await psycopg.AsyncConnection.connect(producer_url) as second:
        await second.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await execute(second, "select 1")
        await _enqueue(producer, job_id)
        await producer.commit()
        with pytest.raises(errors.SerializationFailure):
            await _enqueue(second, job_id)
        await second.rollback()
        assert await _enqueue(second, job_id) == job_id


async def test_an_open_transaction_keeps_nobody_from_its_new_queue(
    any_migrated_database_url: str, admin: Any, producer: Any
) -> None:
    """How it showed: created at once, the queue's name was locked, and servers waited for the producer."""
    await execute(producer, ENQUEUE)
    async with open_database(any_migrated_database_url) as database:
        assert await create_queues_if_room(database, ["mail"]) == ["mail"]
    await producer.commit()
    assert await execute(admin, "select count(*) from atlasqueue.ready") == [(1,)]


async def _fill_queues(admin: Any, most: int) -> None:
    await execute(
        admin,
        "insert into atlasqueue.queues (name) select 'q' || n from generate_series(1, %(n)s) as n",
        n=most,
    )


async def test_there_is_room_for_so_many_queues(admin: Any, producer: Any) -> None:
    await _fill_queues(admin, 9_999)
    await execute(producer, ENQUEUE)
    await execute(producer, ENQUEUE)
    with pytest.raises(errors.ConfigurationLimitExceeded) as refused:
        async with producer.transaction():
            await execute(producer, "select atlasqueue.enqueue('one-more', 'k')")
    assert refused.value.diag.message_detail == "TOO_MANY_QUEUES"
    await producer.commit()
    with pytest.raises(errors.ConfigurationLimitExceeded):
        await execute(producer, "select atlasqueue.enqueue('one-more', 'k')")
    await producer.rollback()
    await execute(producer, ENQUEUE)
    await execute(producer, "select atlasqueue.enqueue('q17', 'k')")
    await producer.commit()
    assert await execute(admin, "select count(*) from atlasqueue.ready") == [(4,)]


async def test_of_two_last_queues_one_commits(admin: Any, producer: Any, producer_url: str) -> None:
    await _fill_queues(admin, 9_999)
    await execute(producer, ENQUEUE)
    async with await psycopg.AsyncConnection.connect(producer_url) as second:
        await execute(second, "select atlasqueue.enqueue('one-more', 'k')")
        await producer.commit()
        with pytest.raises(errors.ConfigurationLimitExceeded) as refused:
            await second.commit()
    assert refused.value.diag.message_detail == "TOO_MANY_QUEUES"
    assert await execute(admin, "select queue from atlasqueue.jobs") == [("mail",)]


async def test_an_old_transaction_goes_by_the_clock(admin: Any, producer: Any) -> None:
    """now() stands still in a transaction: a time that has come meanwhile is no reason to wait."""
    await execute(producer, "select now(), pg_sleep(0.01)")
    await execute(
        producer,
        "select atlasqueue.enqueue('mail', 'k', run_at => now() + interval '1 ms')",
    )
    await producer.commit()
    assert await execute(admin, "select count(*) from atlasqueue.ready") == [(1,)]


async def test_nobody_is_notified(any_migrated_database_url: str, producer: Any) -> None:
    """NOTIFY takes a lock of the whole database at commit, which is not the producer's to pay."""
    url = any_migrated_database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as listener:
        await execute(listener, "listen atlasqueue")
        await execute(producer, ENQUEUE)
        await producer.commit()
        await execute(producer, "select pg_notify('atlasqueue', 'the end')")
        await producer.commit()
        heard = [message.payload async for message in listener.notifies(stop_after=1, timeout=20)]
    assert heard == ["the end"]
