"""An open transaction keeps vacuum away, and every lease walks over the dead rows of all leases before it."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from atlasqueue_server.model import limits
from atlasqueue_server.store import arrays
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.statements import statement
from labs.lab import Verdict, lab
from labs.stage import Stage
from tests.chaos.names import QUEUE

STEPS = 4
PRIORITY = 3
# A flat cost is 1 and the naive statement reaches far more: from here on it counts as caught.
CAUGHT_FROM = 2.0
# What a lane's watermark knows: the highest place in ready that was leased (domain/watermark.py).
HIGHEST_LEASED = """
    select coalesce(max(j.ready_seq), 0) from atlasqueue.jobs j
    where not exists (select from atlasqueue.ready r where r.queue = j.queue and r.job_id = j.job_id)
"""

ONE_READY = b"""
    with body as (
        insert into atlasqueue.jobs (queue, job_id, kind, priority, payload, ready_seq)
        values ('chaos', gen_random_uuid(), 'work', 3, '{}', nextval('atlasqueue.ready_seq'))
        returning queue, priority, ready_seq, job_id
    )
    insert into atlasqueue.ready (
        queue, priority, seq, job_id, attempt, crashes, deliveries, fence, cause
    )
    select queue, priority, ready_seq, job_id, 0, 0, 0, 0, 'e' from body
"""


@lab(
    "pinned_xmin",
    "A pinned xmin",
    question=(
        "Somebody leaves a transaction open: a report that runs for hours, a forgotten psql. PostgreSQL may "
        "not remove any row that this transaction could still see. Each leased job leaves a dead row in "
        "`ready`, at the very end where the next lease begins to look. What does a lease cost after a while?"
    ),
    missing="the watermark",
    chapter="2-locking.md",
    variant="no_watermark",
    many_jobs=True,
    servers=1,
    workers=1,
    slots=100,
)
async def pinned_xmin(stage: Stage) -> Verdict:
    """Counts the pages that one lease reads, early and late in the same run."""
    jobs = stage.of(1500, 6000)
    database = Database(stage.arena.url, connections_max=2)
    await database.open()
    pin = await psycopg.AsyncConnection.connect(stage.arena.url)
    try:
        await stage.key("open a transaction and leave it open")
        await pin.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await pin.execute("select count(*) from atlasqueue.ready")
        stage.event("a transaction has taken its snapshot, and does nothing more", "red")
        # The first one also pays for what is looked up once; it does not count.
        await cost_of_a_lease(stage, database)
        costs = [await cost_of_a_lease(stage, database)]
        await stage.key(f"let the worker work through {STEPS} × {jobs} jobs")
        for step in range(1, STEPS + 1):
            await stage.enqueue(jobs, ms=0)
            await stage.arena.progress.completed(step * jobs)
            costs.append(await cost_of_a_lease(stage, database))
            _draw(stage, step * jobs, costs)
    finally:
        await pin.close()
        await database.close()
    ratio = costs[-1] / costs[0]
    says = (
        f"one lease reads {costs[0]} pages at first and {costs[-1]} after {STEPS * jobs} jobs:"
        f" {ratio:.1f} times as many"
    )
    return Verdict(ratio >= CAUGHT_FROM, says)


async def cost_of_a_lease(stage: Stage, database: Database) -> int:
    """The pages (shared buffers) that the server's own statement touches to lease one job.

    The job is made in the same transaction, so that no worker takes it; both are rolled back.
    Pages, not milliseconds: they do not depend on how busy the machine is.
    """
    await stage.arena.settle()
    ((floor,),) = await stage.sql(HIGHEST_LEASED)
    params = {
        "queue": QUEUE,
        "priorities": arrays.smallints([PRIORITY]),
        "floors": arrays.bigints([floor]),
        "ceilings": arrays.bigints([limits.INT64_MAX]),
        "sessions": arrays.bigints([1]),
        "max_attempts": 20,
    }
    async with database.connection() as connection:
        async with connection.transaction(force_rollback=True):
            await connection.execute(ONE_READY)
            cursor = await connection.execute(
                b"explain (analyze, buffers, format json) " + statement("lease_jobs_if_ready"),
                params,
            )
            row: Any = await cursor.fetchone()
    (plan,) = json.loads(row[0]) if isinstance(row[0], str) else row[0]
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


def _draw(stage: Stage, jobs: int, costs: list[int]) -> None:
    bar = "█" * min(60, round(costs[-1] / costs[0]))
    stage.event(f"after {jobs:6} jobs one lease reads {costs[-1]:5} pages {bar}", "yellow")
