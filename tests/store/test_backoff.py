"""The database draws backoff evenly from [0, ceiling] of model/retry.py."""

from __future__ import annotations

from typing import Any

import pytest

from atlasqueue_server.model.jobs import OutcomeKind
from atlasqueue_server.model.limits import BACKOFF_CAP_MS_DEFAULT
from atlasqueue_server.model.retry import DEFAULT_POLICY, RetryPolicy, backoff_ceiling_ms
from atlasqueue_server.model.states import State
from tests.factories import Factory, execute

POLICIES = [
    DEFAULT_POLICY,
    RetryPolicy(20, 0, 2.0, 1_000),
    RetryPolicy(20, 250, 1.0, 10_000),
    RetryPolicy(20, 3_600_000, 10.0, 604_800_000),
    RetryPolicy(1000, 1, 10.0, 604_800_000),
]


@pytest.mark.parametrize("policy", POLICIES)
async def test_within_the_ceiling_and_spread_over_it(connection: Any, policy: RetryPolicy) -> None:
    for failures in (1, 2, 3, 10, 64, 1000, 32767):
        ((least, mean, most),) = await execute(
            connection,
            """
            select min(ms), avg(ms), max(ms) from (
                select extract(epoch from atlasqueue.backoff(
                    %(failures)s, %(initial_ms)s, %(multiplier)s, %(cap_ms)s
                ))::double precision * 1000 as ms
                from generate_series(1, 500)
            ) drawn
            """,
            failures=failures,
            initial_ms=policy.backoff_initial_ms,
            multiplier=policy.backoff_multiplier,
            cap_ms=policy.backoff_cap_ms,
        )
        ceiling = backoff_ceiling_ms(policy, failures)
        assert 0 <= least <= most <= ceiling + 0.001
        # 500 draws: the mean is within 6 standard errors, the extremes are near the ends.
        assert abs(mean - ceiling / 2) <= ceiling * 0.08
        assert least <= ceiling * 0.05
        assert most >= ceiling * 0.95


async def test_ceiling() -> None:
    assert [backoff_ceiling_ms(DEFAULT_POLICY, n) for n in (1, 2, 3)] == [1000, 2000, 4000]
    assert backoff_ceiling_ms(DEFAULT_POLICY, 1000) == BACKOFF_CAP_MS_DEFAULT
    assert backoff_ceiling_ms(RetryPolicy(backoff_initial_ms=7), 2) == 14


async def test_job_before_queue_before_default(connection: Any, factory: Factory) -> None:
    """Each field of the policy comes from the job, else from the queue, else from the default."""
    hour = 3_600_000
    await factory.enqueue(policy=RetryPolicy(max_attempts=3))
    await execute(
        connection,
        "update atlasqueue.queues set max_attempts = 1, backoff_initial_ms = %(ms)s, backoff_cap_ms = %(ms)s",
        ms=hour,
    )
    session = (await factory.session()).session_id
    for failure in (1, 2):
        (row,) = await factory.lease(session)
        assert row.max_attempts == 3
        assert row.attempt == failure - 1
        assert await factory.report(row.job_id, row.fence, OutcomeKind.FAIL) is State.SCHEDULED
        ((left_s,),) = await execute(
            connection, "select extract(epoch from run_at - now())::float from atlasqueue.scheduled"
        )
        assert left_s <= hour / 1000
        await execute(
            connection,
            """
            with s as (delete from atlasqueue.scheduled returning *)
            insert into atlasqueue.ready (queue, job_id, fence, deliveries, attempt, crashes, priority, cause)
            select queue, job_id, fence, deliveries, attempt, crashes, priority, 'p' from s
            """,
        )
    (row,) = await factory.lease(session)
    assert await factory.report(row.job_id, row.fence, OutcomeKind.FAIL) is State.DEAD


@pytest.mark.parametrize(("retry_after_ms", "least_s", "most_s"), [(0, -5, 1), (90_000, 80, 91)])
async def test_retry_after_overrides_backoff(
    connection: Any, factory: Factory, retry_after_ms: int, least_s: float, most_s: float
) -> None:
    at = await factory.job_in(State.LEASED)
    await factory.report(at.job_id, at.fence, OutcomeKind.FAIL, delay_ms=retry_after_ms)
    ((left_s,),) = await execute(
        connection, "select extract(epoch from run_at - now())::float from atlasqueue.scheduled"
    )
    assert least_s <= left_s <= most_s
