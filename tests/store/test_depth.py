"""Depth is exact: after any verbs it says what count(*) says, folded or not."""

from __future__ import annotations

import asyncio
import random
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any

import pytest

from atlasqueue_server.model.jobs import HeldJob, OutcomeKind
from atlasqueue_server.store import scheduler
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.dead_letters import (
    purge_dead_letters_if_dead,
    redrive_dead_letters_if_dead,
)
from atlasqueue_server.store.jobs import cancel_job_if_open
from atlasqueue_server.store.queues import get_depth
from atlasqueue_server.store.scheduler import Term
from atlasqueue_server.store.sessions import heartbeat, release_undelivered
from tests.factories import Factory, execute

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
COUNTED = """
    select
        (select count(*) from atlasqueue.scheduled where queue = %(queue)s), (select count(*) from atlasqueue.ready where queue = %(queue)s),
        (select count(*) from atlasqueue.leased where queue = %(queue)s), (select count(*) from atlasqueue.dead_letters where queue = %(queue)s),
        (select count(*) from atlasqueue.finished where queue = %(queue)s and state = 's'),
        (select count(*) from atlasqueue.finished where queue = %(queue)s and state = 'c')
    """


async def _random_verbs(
    database: Database, connection: Any, factory: Factory, term: Term, seed: int
) -> None:
    chance = random.Random(seed)
    jobs = await factory.enqueue_many(20)
    for _ in range(6):
        session = await factory.session(20)
        rows = await factory.lease(session.session_id, chance.randint(1, 8))
        for row in rows:
            kind = chance.choice([*OutcomeKind, None])
            if chance.random() < 0.3:
                await cancel_job_if_open(database, factory.queue, row.job_id)
            if kind is not None:
                await factory.report(row.job_id, row.fence, kind)
        held = [HeldJob(factory.queue, row.job_id, row.fence) for row in rows[::2]]
        last = max((row.fence for row in rows), default=0)
        await heartbeat(database, session.session_id, 1, held, last)
        await release_undelivered(database, session.session_id, last - 2)
        await cancel_job_if_open(database, factory.queue, chance.choice(jobs).job_id)
        ids = [job.job_id for job in chance.sample(jobs, 8)]
        act = chance.choice([redrive_dead_letters_if_dead, purge_dead_letters_if_dead])
        await act(database, factory.queue, ids)
        await execute(
            connection,
            "update atlasqueue.scheduled set run_at = now() where queue = %(queue)s and random() < .5",
            queue=factory.queue,
        )
        await scheduler.promote_jobs_if_leader(database, term, factory.queue, LONG_AGO, 5)
        if chance.random() < 0.5:
            await execute(
                connection,
                "update atlasqueue.sessions set lost = true where queues[1] = %(queue)s",
                queue=factory.queue,
            )
            await scheduler.expire_leases_if_leader(database, term, 5)
        else:
            await execute(
                connection,
                "update atlasqueue.leased set deadline_at = now() - interval '1 s' where queue = %(queue)s and random() < .3",
                queue=factory.queue,
            )
            await scheduler.fail_overdue_jobs_if_leader(database, term, 5)
        if chance.random() < 0.5:
            await scheduler.fold_depths_if_leader(database, term)


async def _counted(connection: Any, queue: str) -> tuple[int, ...]:
    rows = await execute(connection, COUNTED, queue=queue)
    return rows[0]


@pytest.mark.parametrize("seed", [1, 2])
async def test_depth_is_what_count_says(
    database: Database, connection: Any, term: Term, seed: int
) -> None:
    """Three tasks at once, each on a queue of its own; then folded, and folded again."""
    queues = [f"mail-{i}" for i in range(3)]
    await asyncio.gather(
        *(
            _random_verbs(database, connection, Factory(database, queue), term, seed * 10 + i)
            for i, queue in enumerate(queues)
        )
    )
    for _ in range(3):
        for queue in queues:
            depth = await get_depth(database, queue)
            assert astuple(depth) == await _counted(connection, queue)
            assert sum(astuple(depth)) > 0
        await scheduler.fold_depths_if_leader(database, term)
    assert await execute(connection, "select count(*) from atlasqueue.depth_deltas") == [(0,)]
    # Nobody is in two places or in none.
    rows = await execute(
        connection,
        """
        select queue, job_id, count(places.queue) from atlasqueue.jobs left join (
            select queue, job_id from atlasqueue.scheduled union all
            select queue, job_id from atlasqueue.ready union all
            select queue, job_id from atlasqueue.leased union all
            select queue, job_id from atlasqueue.dead_letters union all
            select queue, job_id from atlasqueue.finished
        ) places using (queue, job_id) group by queue, job_id having count(places.queue) <> 1
        """,
    )
    assert rows == []
