"""enqueue: an id is stored once, however many callers send it at the same time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from atlasqueue_server.domain.enqueue import Enqueuer
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.errors import JobIdConflict
from atlasqueue_server.model.jobs import Enqueued, NewJob
from atlasqueue_server.model.retry import RetryPolicy
from atlasqueue_server.store import database as store_database
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.enqueue import (
    classify_enqueued_jobs,
    enqueue_jobs_if_new,
    enqueue_uniform_jobs_if_all_new,
)
from atlasqueue_server.store.queues import create_queues_if_room
from tests.factories import Factory, execute, new_job, snapshot_of_queue, uniform_of
from tests.waiting import eventually


def _enqueuer(database: Database) -> Enqueuer:
    signals = Signals()
    return Enqueuer(database, Queues(database, signals), signals)


async def _how_many_new(database: Database, jobs: list[NewJob]) -> int:
    return (await enqueue_jobs_if_new(database, {"mail": jobs}))["mail"]


async def _how_many_uniform(database: Database, jobs: list[NewJob]) -> int:
    return len(jobs) * await enqueue_uniform_jobs_if_all_new(database, uniform_of(jobs))


@pytest.mark.parametrize("stores", [_how_many_new, _how_many_uniform])
async def test_same_ids_in_another_order_do_not_deadlock(
    database: Database,
    connection: Any,
    monkeypatch: pytest.MonkeyPatch,
    stores: Callable[[Database, list[NewJob]], Awaitable[int]],
) -> None:
    """Two batches with the same ids, one in reverse, are both on their way when the middle id is freed.

    If each inserted in its own order, each would hold what the other needs next.
    """
    monkeypatch.setattr(store_database, "TRANSIENT_TRIES", 1)
    await create_queues_if_room(database, ["mail"])
    jobs = sorted((new_job("mail") for _ in range(3)), key=lambda job: job.job_id)
    async with await psycopg.AsyncConnection.connect(database.url) as holder:
        await execute(
            holder,
            "insert into atlasqueue.jobs (queue, job_id, kind, priority, payload)"
            " values ('mail', %(id)s, 'email', 3, '')",
            id=jobs[1].job_id,
        )
        batches = [asyncio.ensure_future(stores(database, order)) for order in (jobs, jobs[::-1])]

        async def both_wait() -> bool:
            rows = await execute(
                connection,
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'",
            )
            return rows == [(2,)]

        await eventually(both_wait)
        await holder.rollback()
        stored = await asyncio.gather(*batches)
    assert sorted(stored) == [0, 3]


async def test_many_batches_of_the_same_ids_store_each_once(
    database: Database, connection: Any
) -> None:
    await create_queues_if_room(database, ["mail"])
    jobs = [new_job("mail") for _ in range(200)]
    orders = [random.Random(seed).sample(jobs, len(jobs)) for seed in range(12)]
    stored = await asyncio.gather(
        *(enqueue_jobs_if_new(database, {"mail": order}) for order in orders)
    )
    assert sum(found["mail"] for found in stored) == len(jobs)
    for table in ("jobs", "ready"):
        rows = await execute(
            connection, f"select count(*), count(distinct job_id) from atlasqueue.{table}"
        )
        assert rows == [(len(jobs), len(jobs))]


async def test_each_caller_gets_the_same_answer(database: Database, connection: Any) -> None:
    """Two servers and one call that names an id twice: stored once, and stored is what all are told."""
    jobs = [new_job("mail") for _ in range(50)]
    enqueuers = [_enqueuer(database), _enqueuer(database)]
    calls = [e.enqueue([*jobs, *reversed(jobs)]) for e in enqueuers for _ in range(3)]
    for answers in await asyncio.gather(*calls):
        assert answers == [None] * 100
    assert await execute(connection, "select count(*) from atlasqueue.jobs") == [(50,)]
    for enqueuer in enqueuers:
        await enqueuer.close()


async def test_an_id_named_many_times_is_settled_in_one_round(database: Database) -> None:
    """It showed as Overloaded on an idle server: each round settled one mention, and rounds are few."""
    job, other = new_job("mail"), new_job("mail")
    again = job._replace(payload=b"other")
    enqueuer = _enqueuer(database)
    answers = await enqueuer.enqueue([job] * 20 + [again, other, again])
    assert answers[:20] == [None] * 20
    assert answers[21] is None
    assert isinstance(answers[20], JobIdConflict)
    assert isinstance(answers[22], JobIdConflict)
    await enqueuer.close()


async def test_one_id_with_two_bodies_is_a_conflict_for_the_second(
    database: Database, connection: Any
) -> None:
    job = new_job("mail")
    enqueuer = _enqueuer(database)
    first, second = await enqueuer.enqueue([job, job._replace(payload=b"other")])
    assert first is None
    assert isinstance(second, JobIdConflict)
    assert await execute(connection, "select payload from atlasqueue.jobs") == [(job.payload,)]
    await enqueuer.close()


async def test_every_field_is_part_of_the_body(database: Database, factory: Factory) -> None:
    """Another value in any field is a conflict; headers of tracing are not part of it."""
    at = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
    job = await factory.enqueue(
        headers_json='{"a": "1", "traceparent": "00-1", "tracestate": "b=2", "baggage": "c=3"}',
        run_at=at,
        deadline_ms=60_000,
        policy=RetryPolicy(3, 100, 1.5, 5_000),
    )
    others: dict[str, Any] = {
        "kind": "sms",
        "payload": b"",
        "priority": 1,
        "headers_json": '{"a": "2"}',
        "run_at": at + timedelta(microseconds=1),
        "deadline_ms": None,
    }
    bodies = [job._replace(**{field: value}) for field, value in others.items()]
    bodies += [
        job._replace(policy=RetryPolicy(*policy))
        for policy in (
            (4, 100, 1.5, 5_000),
            (3, None, 1.5, 5_000),
            (3, 100, 2.0, 5_000),
            (3, 100, 1.5, None),
        )
    ]

    async def classified(body: NewJob) -> Enqueued:
        return (await classify_enqueued_jobs(database, job.queue, [body]))[0]

    assert await classified(job) is Enqueued.STORED
    assert (
        await classified(job._replace(headers_json='{"a": "1", "baggage": "x"}')) is Enqueued.STORED
    )
    for body in bodies:
        assert await classified(body) is Enqueued.CONFLICT, body


async def test_an_unknown_id_has_no_answer(database: Database, factory: Factory) -> None:
    """So that the caller enqueues again what its first writer rolled back."""
    job = await factory.enqueue()
    found = await classify_enqueued_jobs(database, job.queue, [job, new_job(job.queue)])
    assert found == {0: Enqueued.STORED}


async def test_run_at_decides_by_the_database_clock(connection: Any, factory: Factory) -> None:
    (now,) = (await execute(connection, "select now()"))[0]
    await factory.enqueue(run_at=now - timedelta(microseconds=1))
    await factory.enqueue(run_at=now + timedelta(minutes=5))
    for table in ("ready", "scheduled"):
        assert await execute(connection, f"select count(*) from atlasqueue.{table}") == [(1,)]


FULL: dict[str, Any] = {
    "kind": "sms",
    "priority": 2,
    "headers_json": '{"a": "1", "ключ": "значение"}',
    "deadline_ms": 60_000,
    "policy": RetryPolicy(3, 100, 1.5, 5_000),
}
BODY = (
    "kind, priority, headers, run_at, deadline_ms, max_attempts, backoff_initial_ms,"
    " backoff_multiplier, backoff_cap_ms"
)


@pytest.mark.parametrize("fields", [{}, FULL], ids=["plain", "full"])
async def test_uniform_jobs_are_stored_with_all_that_they_share(
    database: Database, connection: Any, fields: dict[str, Any]
) -> None:
    """As by the statement that takes each job with a body of its own."""
    await create_queues_if_room(database, ["mail", "other"])
    jobs = [new_job("mail", payload=b"%d\0" % n, **fields) for n in range(100)]
    assert await enqueue_uniform_jobs_if_all_new(database, uniform_of(jobs))
    alone = new_job("other", **fields)
    await enqueue_jobs_if_new(database, {"other": [alone]})
    bodies = [
        await execute(
            connection,
            f"select distinct {BODY} from atlasqueue.jobs where queue = %(queue)s",
            queue=queue,
        )
        for queue in ("mail", "other")
    ]
    assert bodies[0] == bodies[1]
    payloads = await execute(
        connection, "select job_id::text, payload from atlasqueue.jobs where queue = 'mail'"
    )
    assert dict(payloads) == {job.job_id: job.payload for job in jobs}
    shapes = [
        await execute(
            connection,
            "select distinct priority, attempt, crashes, deliveries, fence, cause"
            " from atlasqueue.ready where queue = %(queue)s",
            queue=queue,
        )
        for queue in ("mail", "other")
    ]
    assert shapes[0] == shapes[1]
    found = [await classify_enqueued_jobs(database, "mail", [job]) for job in jobs]
    assert found == [{0: Enqueued.STORED}] * len(jobs)


async def test_uniform_jobs_are_ready_in_the_order_of_their_ids(
    database: Database, connection: Any
) -> None:
    """Whatever their order in the call; and a job knows its place among those that are ready."""
    await create_queues_if_room(database, ["mail"])
    jobs = [new_job("mail") for _ in range(500)]
    assert await enqueue_uniform_jobs_if_all_new(database, uniform_of(jobs))
    rows = await execute(
        connection,
        "select r.job_id::text, r.seq = j.ready_seq from atlasqueue.ready r"
        " join atlasqueue.jobs j using (queue, job_id) order by r.seq",
    )
    assert rows == [(job_id, True) for job_id in sorted(job.job_id for job in jobs)]
    deltas = await execute(
        connection, "select queue, ready, scheduled, leased from atlasqueue.depth_deltas"
    )
    assert deltas == [("mail", 500, 0, 0)]


@pytest.mark.parametrize("twice", [False, True], ids=["of an earlier call", "of the same call"])
async def test_of_uniform_jobs_none_is_stored_when_one_id_exists(
    database: Database, connection: Any, factory: Factory, twice: bool
) -> None:
    stored = await factory.enqueue()
    before = await snapshot_of_queue(connection, "mail")
    jobs = [new_job("mail") for _ in range(20)]
    jobs.append(jobs[7] if twice else stored)
    assert not await enqueue_uniform_jobs_if_all_new(database, uniform_of(jobs))
    assert await snapshot_of_queue(connection, "mail") == before
    # The link serves on.
    assert await enqueue_uniform_jobs_if_all_new(database, uniform_of(jobs[:20]))
