"""promote: what is due, in the order in which it was, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.scheduler.promote import FLOOR_LAG, START, Promote
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term, promote_jobs_if_leader
from tests.factories import Factory, execute

READY = "select job_id::text from atlasqueue.ready order by seq"


async def scheduled(connection: Any, factory: Factory, *seconds: float) -> list[str]:
    """Jobs that are due in so many seconds from now."""
    ids = []
    for after in seconds:
        # Scheduled first, or one that is due already would be ready at once.
        job = await factory.enqueue(run_at=datetime.now(UTC) + timedelta(days=1))
        await execute(
            connection,
            "update atlasqueue.scheduled set run_at = now() + %(after)s * interval '1 s'"
            " where job_id = %(job_id)s",
            after=after,
            job_id=job.job_id,
        )
        ids.append(job.job_id)
    return ids


async def ready(connection: Any) -> list[str]:
    return [job_id for (job_id,) in await execute(connection, READY)]


async def test_what_is_due_becomes_ready_in_its_order(
    database: Database, connection: Any, factory: Factory, term: Term
) -> None:
    """It showed when the statement was broken on purpose: no test had jobs that were due one after the other."""
    last, first, _later, second = await scheduled(connection, factory, -100, -300, 3600, -200)
    floor = datetime.now(UTC) - timedelta(seconds=250)
    for above, batch, expected in (
        (floor, 1, [second]),
        (START, 1, [second, first]),
        (START, 10, [second, first, last]),
        (START, 10, [second, first, last]),
    ):
        await promote_jobs_if_leader(database, term, "mail", above, batch)
        assert await ready(connection) == expected
    await execute(connection, "delete from atlasqueue.ready")
    in_one = await scheduled(connection, factory, -1, -3, -2)
    await promote_jobs_if_leader(database, term, "mail", START, 10)
    assert await ready(connection) == [in_one[1], in_one[2], in_one[0]]


async def test_a_job_that_commits_late_is_promoted_without_a_sweep(
    database: Database, connection: Any, factory: Factory, term: Term
) -> None:
    """Behind what was promoted last by less than the lag it is found at once, by more at the second look."""
    promote = Promote(database, Signals())
    lag_s = FLOOR_LAG.total_seconds()
    expected = await scheduled(connection, factory, 0)
    await promote.tick(term)
    assert await ready(connection) == expected
    expected += await scheduled(connection, factory, 1 - lag_s)
    await promote.tick(term)
    assert await ready(connection) == expected
    expected += await scheduled(connection, factory, -2 * lag_s)
    await promote.tick(term)
    await promote.tick(term)
    assert await ready(connection) == expected
