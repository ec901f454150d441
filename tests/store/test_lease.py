"""lease: dispatch order, locked rows, windows of seq, paused queues, fences."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atlasqueue_server.model import limits
from atlasqueue_server.model.jobs import OutcomeKind
from atlasqueue_server.model.states import State
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.lease import LeaseOrder, SeqWindow, lease_jobs_if_ready
from atlasqueue_server.store.queues import pause_queue, resume_queue
from atlasqueue_server.store.report import bury_lost_bodies
from tests.factories import Factory, execute


async def test_by_priority_then_first_in_first_out(factory: Factory) -> None:
    expected: dict[int, list[str]] = {}
    for priority in (3, 1, 5, 3, 2, 1, 4, 5, 3):
        job = await factory.enqueue(priority=priority)
        expected.setdefault(priority, []).append(job.job_id)
    session = await factory.session()
    leased = []
    for jobs in (1, 4, 10):
        leased += [row.job_id for row in await factory.lease(session.session_id, jobs)]
    assert leased == [job_id for priority in sorted(expected) for job_id in expected[priority]]


async def test_each_order_has_priorities_of_its_own(database: Database, factory: Factory) -> None:
    """The reserved part of a lease looks into lower priorities first, in the same transaction."""
    urgent = await factory.enqueue_many(3, priority=1)
    (low,) = await factory.enqueue_many(1, priority=5)
    session = (await factory.session()).session_id
    strict = LeaseOrder(
        [SeqWindow(1, 0, limits.INT64_MAX), SeqWindow(5, 0, limits.INT64_MAX)], [session] * 2
    )
    reserved = LeaseOrder(
        [SeqWindow(5, 0, limits.INT64_MAX), SeqWindow(1, 0, limits.INT64_MAX)], [session]
    )
    rows = await lease_jobs_if_ready(database, "mail", [strict, reserved])
    assert {row.job_id for row in rows[:2]} < {job.job_id for job in urgent}
    assert rows[2].job_id == low.job_id


async def test_concurrent_leases_share_no_job_and_wait_for_nobody(
    connection: Any, factory: Factory
) -> None:
    """Rows that another transaction holds are passed over, and each job is leased once."""
    jobs = await factory.enqueue_many(60)
    sessions = [(await factory.session(100)).session_id for _ in range(4)]
    async with connection.transaction():
        held = await execute(
            connection, "select job_id::text from atlasqueue.ready order by seq limit 10 for update"
        )
        leased = await asyncio.gather(*(factory.lease(s, 20) for s in sessions))
    rows = [row for answer in leased for row in answer]
    names = [row.job_id for row in rows]
    assert len(set(names)) == len(names)
    assert set(names) == {job.job_id for job in jobs} - {job_id for (job_id,) in held}
    assert len({row.fence for row in rows}) == len(rows)
    assert len(await factory.lease(sessions[0], 20)) == len(held)


async def test_windows_of_seq_are_open_below_and_closed_above(factory: Factory) -> None:
    await factory.enqueue_many(6)
    session = await factory.session()
    first, *_ = await factory.lease(session.session_id)
    between = await factory.lease(
        session.session_id, 10, floor=first.seq + 1, ceiling=first.seq + 3
    )
    assert [row.seq - first.seq for row in between] == [2, 3]


async def test_paused_queue_leases_nothing(database: Database, factory: Factory) -> None:
    await factory.enqueue()
    session = await factory.session()
    await pause_queue(database, "mail")
    assert await factory.lease(session.session_id) == []
    await resume_queue(database, "mail")
    assert len(await factory.lease(session.session_id)) == 1


async def test_fences_of_a_job_grow_even_when_the_sequence_falls_back(
    connection: Any, factory: Factory
) -> None:
    """A restored backup may hold an older sequence; the fence that the job carries still wins."""
    at = await factory.job_in(State.READY)
    await execute(connection, "select setval('atlasqueue.fence_seq', 1, false)")
    (row,) = await factory.lease((await factory.session()).session_id)
    assert row.fence == at.fence + 1
    assert row.deliveries == 2


async def test_a_lost_body_surfaces_and_is_buried(
    database: Database, connection: Any, factory: Factory
) -> None:
    """The row without a body is leased with kind None, so that it does not stay first in line for ever."""
    job = await factory.enqueue()
    await execute(connection, "delete from atlasqueue.jobs")
    (row,) = await factory.lease((await factory.session()).session_id)
    assert (row.job_id, row.kind) == (job.job_id, None)
    await bury_lost_bodies(database, "mail", [(row.job_id, row.fence)])
    found = await execute(
        connection, "select job_id::text, reason::text from atlasqueue.dead_letters"
    )
    assert found == [(job.job_id, "b")]


async def test_checkpoint_comes_back_with_the_next_lease(
    database: Database, connection: Any, factory: Factory
) -> None:
    at = await factory.job_in(State.LEASED)
    params: dict[str, Any] = {"queue": "mail", "job_ids": [at.job_id], "fences": [at.fence]}
    first = params | {"percents": [10], "notes": ["begun"], "data": [b"state"]}
    await database.run("save_checkpoints_if_fenced", first)
    # What is null stays as it was.
    await database.run(
        "save_checkpoints_if_fenced", params | {"percents": [20], "notes": [None], "data": [None]}
    )
    await database.run(
        "save_checkpoints_if_fenced", params | {"percents": [None], "notes": [None], "data": [None]}
    )
    kept = await execute(connection, "select percent, note from atlasqueue.checkpoints")
    assert kept == [(20, "begun")]
    await factory.report(at.job_id, at.fence, OutcomeKind.RELEASE)
    (row,) = await factory.lease((await factory.session()).session_id)
    assert row.checkpoint == b"state"


async def test_a_lease_tells_how_long_its_job_has_waited_and_may_run(
    connection: Any, factory: Factory
) -> None:
    """It showed when the statement was broken on purpose: the time before a job was due counted as a wait."""
    at = await factory.enqueue(deadline_ms=1500)
    await execute(
        connection,
        "update atlasqueue.jobs set created_at = now() - interval '1 h', run_at = now() - interval '1 min'",
    )
    session = (await factory.session()).session_id
    (row,) = await factory.lease(session)
    assert row.waited_s == pytest.approx(60, abs=30)
    run = "select extract(epoch from deadline_at - leased_at)::float from atlasqueue.leased"
    assert await execute(connection, run) == [(1.5,)]
    await factory.report(at.job_id, row.fence, OutcomeKind.RELEASE)
    (again,) = await factory.lease(session)
    assert again.waited_s is None
