"""Days of finished and prune: nothing that lives is forgotten, nothing that is old stays."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import psycopg
import pytest

from atlasqueue_server.model.jobs import OutcomeKind
from atlasqueue_server.model.limits import DEAD_LETTER_RETENTION_DAYS, FINISHED_RETENTION_DAYS
from atlasqueue_server.model.partitions import DAYS_AHEAD, partition_name
from atlasqueue_server.model.states import State
from atlasqueue_server.scheduler import prune
from atlasqueue_server.scheduler.prune import Partitions, Prune
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.enqueue import enqueue_jobs_if_new
from atlasqueue_server.store.jobs import get_jobs
from atlasqueue_server.store.scheduler import (
    Term,
    create_finished_partition_if_leader,
    prune_bodies_if_leader,
)
from tests.factories import Factory, Standing, execute, new_job, take_term_by_force

DAYS = """
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'atlasqueue.finished'::regclass and c.relname <> 'finished_default'
    order by 1
    """


async def test_days_are_made_ahead_once(database: Database, connection: Any, term: Term) -> None:
    for _ in range(2):
        await Partitions(database).tick(term)
    ((today,),) = await execute(connection, "select (now() at time zone 'utc')::date")
    expected = [partition_name(today + timedelta(days=i)) for i in range(DAYS_AHEAD)]
    assert [name for (name,) in await execute(connection, DAYS)] == expected


async def test_a_job_that_finished_before_its_day_was_made(
    database: Database, connection: Any, factory: Factory, term: Term
) -> None:
    """PostgreSQL refuses a day of which the default partition holds a row.

    The tick used to fail there and never came to the days after it, so that on each of them jobs went
    to the default partition first: no day was ever made again.
    """
    await factory.job_in(State.SUCCEEDED)
    ((today,),) = await execute(connection, "select (now() at time zone 'utc')::date")
    for _ in range(2):
        await Partitions(database).tick(term)
    expected = [partition_name(today + timedelta(days=i)) for i in range(1, DAYS_AHEAD)]
    assert [name for (name,) in await execute(connection, DAYS)] == expected


async def test_a_day_past_its_retention_goes_with_its_bodies(
    database: Database, connection: Any, factory: Factory, term: Term
) -> None:
    old = await factory.job_in(State.SUCCEEDED)
    age = timedelta(days=FINISHED_RETENTION_DAYS + 1)
    for table, column in (("finished", "finished_at"), ("jobs", "created_at")):
        await execute(
            connection, f"update atlasqueue.{table} set {column} = {column} - %(age)s", age=age
        )
    kept = await factory.job_in(State.CANCELLED)
    assert not await Prune(database).tick(term)
    for table in ("jobs", "finished"):
        rows = await execute(connection, f"select job_id::text from atlasqueue.{table}")
        assert rows == [(kept.job_id,)]
    assert old.job_id != kept.job_id


async def _with_history(connection: Any, at: Standing) -> None:
    """Gives a job a failure and a checkpoint."""
    for statement in (
        "insert into atlasqueue.failures (queue, job_id, fence, attempt, cause, final)"
        " values (%(queue)s, %(job_id)s, 1000, 1, 'f', false)",
        "insert into atlasqueue.checkpoints (queue, job_id, fence, percent)"
        " values (%(queue)s, %(job_id)s, 1000, 50)",
    ):
        await execute(connection, statement, queue=at.queue, job_id=at.job_id)


@pytest.mark.parametrize(
    ("state", "table", "column", "days"),
    [
        (State.SUCCEEDED, "finished", "finished_at", FINISHED_RETENTION_DAYS),
        (State.DEAD, "dead_letters", "died_at", DEAD_LETTER_RETENTION_DAYS),
    ],
)
async def test_the_history_goes_with_the_job_and_the_young_stay(
    database: Database,
    connection: Any,
    factory: Factory,
    term: Term,
    state: State,
    table: str,
    column: str,
    days: int,
) -> None:
    """It showed when statements were broken on purpose: no test had a dead letter that was too young, and
    none looked whether failures and checkpoints stayed behind."""
    # Finished jobs go by the day.
    for age in (timedelta(days=days + 1), timedelta(days=days, hours=-1)):
        at = await factory.job_in(state)
        await _with_history(connection, at)
        for of, since in ((table, column), ("jobs", "created_at")):
            await execute(
                connection,
                f"update atlasqueue.{of} set {since} = {since} - %(age)s where job_id = %(job_id)s",
                age=age,
                job_id=at.job_id,
            )
    while await Prune(database).tick(term):
        pass
    for of in ("jobs", table, "failures", "checkpoints"):
        rows = await execute(connection, f"select distinct job_id::text from atlasqueue.{of}")
        assert rows == [(at.job_id,)], of


async def test_an_id_that_lives_again_keeps_its_body(
    database: Database, connection: Any, factory: Factory, term: Term
) -> None:
    """Its old body is pruned, its day not yet dropped, and the id is enqueued anew.

    prune looked only at the old row of finished, so the next batch took the body of the new job too.
    """
    at = await factory.job_in(State.SUCCEEDED)
    age = timedelta(days=FINISHED_RETENTION_DAYS + 1)
    for table, column in (("finished", "finished_at"), ("jobs", "created_at")):
        await execute(
            connection, f"update atlasqueue.{table} set {column} = {column} - %(age)s", age=age
        )
    ((before,),) = await execute(
        connection,
        "select (now() at time zone 'utc')::date - %(days)s::int",
        days=FINISHED_RETENTION_DAYS,
    )
    assert await prune_bodies_if_leader(database, term, at.queue, [at.job_id], before) == 1
    assert await enqueue_jobs_if_new(database, {at.queue: [at.job]}) == {at.queue: 1}
    assert await prune_bodies_if_leader(database, term, at.queue, [at.job_id], before) == 0
    assert await execute(connection, "select count(*) from atlasqueue.jobs") == [(1,)]


async def test_an_id_that_lives_again_shows_its_new_outcome(
    database: Database, connection: Any, factory: Factory, term: Term
) -> None:
    """Its old day is not dropped yet (a backup reads it) when the job of that id finishes once more: the first row that was
    found was the old one, and who waited for the job was given its result of a week ago.
    """
    await Partitions(database).tick(term)
    ((today,),) = await execute(connection, "select (now() at time zone 'utc')::date")
    old = today - timedelta(days=FINISHED_RETENTION_DAYS + 1)
    await create_finished_partition_if_leader(
        database, term, partition_name(old), old, old + timedelta(days=1)
    )
    await _finished_long_ago(connection, factory, _id(1))
    before = today - timedelta(days=FINISHED_RETENTION_DAYS)
    assert await prune_bodies_if_leader(database, term, factory.queue, [_id(1)], before) == 1
    job = new_job(factory.queue, job_id=_id(1))
    await enqueue_jobs_if_new(database, {factory.queue: [job]})
    (row,) = await factory.lease((await factory.session()).session_id)
    await factory.report(_id(1), row.fence, OutcomeKind.COMPLETE, result=b"new")
    (read,) = await get_jobs(database, factory.queue, [_id(1)], whole=True)
    assert (read.result, read.fence) == (b"new", row.fence)


async def _finished_long_ago(connection: Any, factory: Factory, *job_ids: str) -> None:
    """Jobs of these ids whose retention is over, in the default partition."""
    session = await factory.session()
    for job_id in job_ids:
        job = new_job(factory.queue, job_id=job_id)
        await enqueue_jobs_if_new(factory.database, {job.queue: [job]})
        (row,) = await factory.lease(session.session_id)
        await factory.report(job_id, row.fence, OutcomeKind.COMPLETE)
    age = timedelta(days=FINISHED_RETENTION_DAYS + 1)
    for table, column in (("finished", "finished_at"), ("jobs", "created_at")):
        await execute(
            connection,
            f"update atlasqueue.{table} set {column} = {column} - %(age)s"
            f" where {column} > now() - %(age)s",
            age=age,
        )


def _id(number: int) -> str:
    return f"{number:08d}-0000-0000-0000-000000000000"


async def test_a_leader_that_leads_again_walks_from_the_start(
    database: Database,
    connection: Any,
    any_migrated_database_url: str,
    factory: Factory,
    term: Term,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It went on where it had stopped under an older term, and dropped a day whose first bodies were still there:
    no verb finds such a body again, and an enqueue of its id stores nothing.
    """
    monkeypatch.setattr(prune, "BATCH", 2)
    loop = Prune(database)
    await _finished_long_ago(connection, factory, _id(5), _id(6), _id(7))
    assert await loop.tick(term)
    await _finished_long_ago(connection, factory, _id(1))
    newer = await take_term_by_force(any_migrated_database_url)
    while await loop.tick(newer):
        pass
    for table in ("jobs", "finished"):
        assert await execute(connection, f"select job_id from atlasqueue.{table}") == []


async def test_what_no_day_covers_goes_in_one_walk(
    database: Database,
    connection: Any,
    factory: Factory,
    term: Term,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch went after each walk over all that was left: of a million rows a thousand walks."""
    monkeypatch.setattr(prune, "BATCH", 1)
    await _finished_long_ago(connection, factory, _id(1), _id(2), _id(3))
    loop = Prune(database)
    ticks = 1
    while await loop.tick(term):
        ticks += 1
    assert await execute(connection, "select job_id from atlasqueue.finished") == []
    assert ticks == 4


async def test_a_backup_holds_up_no_report(
    database: Database,
    connection: Any,
    any_migrated_database_url: str,
    factory: Factory,
    term: Term,
) -> None:
    """pg_dump reads `finished` for as long as it takes. To make or drop a day waited for it a second, and again
    after a quarter of one: as long as the dump ran, reports and reads of jobs stood still for four fifths of the time.
    """
    old = date(2001, 2, 3)
    await create_finished_partition_if_leader(
        database, term, partition_name(old), old, old + timedelta(days=1)
    )
    loops = (Partitions(database), Prune(database))
    url = any_migrated_database_url
    async with await psycopg.AsyncConnection.connect(url) as dump:
        await execute(dump, "lock table atlasqueue.finished in access share mode")
        for loop in loops:
            # A tick that fails is tried again at once; this one says that it has nothing to do.
            assert not await loop.tick(term)
        assert await execute(connection, DAYS) == [(partition_name(old),)]
        await factory.job_in(State.SUCCEEDED)
    for loop in loops:
        await loop.tick(term)
    assert len(await execute(connection, DAYS)) == DAYS_AHEAD - 1
