"""The database draws backoff evenly from [0, ceiling] of model/retry.py."""

from __future__ import annotations

from typing import Any

import pytest

from atlasqueue_server.model.jobs import OutcomeKind
from atlasqueue_server.model.limits import BACKOFF_CAP_MS_DEFAULT
from atlasqueue_server.model.retry import DEFAULT_POLICY, RetryPolicy, backoff_ceiling_ms
from atlasqueue_server.model.states import State
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.report import report_if_fenced
from atlasqueue_server.store.scheduler import (
    Term,
    expire_leases_if_leader,
    fail_overdue_jobs_if_leader,
)
from tests.factories import Factory, execute, outcome_of

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


@pytest.mark.parametrize("ended_by", ["report", "deadline", "expiry"])
async def test_each_field_of_the_policy_decides_the_delay(
    database: Database, connection: Any, factory: Factory, term: Term, ended_by: str
) -> None:
    """Whatever ends the lease: job before queue before default, and the failure itself is counted.

    It showed when statements were broken on purpose: nothing failed when the queue's backoff was left out.
    """
    of_queue = [job.job_id for job in await factory.enqueue_many(60)]
    at_once = RetryPolicy(backoff_initial_ms=0), RetryPolicy(backoff_cap_ms=0)
    undelayed = [(await factory.enqueue(policy=policy)).job_id for policy in at_once]
    steady = RetryPolicy(backoff_initial_ms=500, backoff_multiplier=1.0)
    slow = [job.job_id for job in await factory.enqueue_many(20, policy=steady)]
    # Of the second failure: 20 s, which the cap makes 15. The default's is 2 s.
    await execute(
        connection,
        "update atlasqueue.queues"
        " set backoff_initial_ms = 2000, backoff_multiplier = 10, backoff_cap_ms = 15000",
    )
    rows = await factory.lease((await factory.session(100)).session_id, 100)
    await execute(
        connection,
        "update atlasqueue.leased set attempt = 1, crashes = 1, deadline_at = now() - interval '1 s'",
    )

    if ended_by == "report":
        outcomes = [outcome_of("mail", row.job_id, row.fence, OutcomeKind.FAIL) for row in rows]
        outcomes.sort(key=lambda outcome: outcome.job_id)
        await report_if_fenced(database, {("mail", OutcomeKind.FAIL): outcomes})
    elif ended_by == "deadline":
        await fail_overdue_jobs_if_leader(database, term, 100)
    else:
        await execute(connection, "update atlasqueue.sessions set lost = true")
        await expire_leases_if_leader(database, term, 100)

    delays = dict(
        await execute(
            connection,
            "select job_id::text, extract(epoch from run_at - failed_at)::float"
            " from atlasqueue.scheduled join atlasqueue.failures using (queue, job_id, fence)",
        )
    )
    assert [delays[job_id] for job_id in undelayed] == [0, 0]
    # Drawn from all of it: 60 draws within two thirds come once in 10 ** 10 runs.
    assert 10 < max(delays[job_id] for job_id in of_queue) <= 15
    assert max(delays[job_id] for job_id in slow) <= 0.5


@pytest.mark.parametrize("ended_by", ["report", "deadline"])
async def test_the_attempts_of_the_job_come_before_those_of_the_queue(
    database: Database, connection: Any, factory: Factory, term: Term, ended_by: str
) -> None:
    most = {None: 2, 1: 1, 3: 3}
    of_job = {
        (await factory.enqueue(policy=RetryPolicy(max_attempts=own))).job_id: attempts
        for own, attempts in most.items()
    }
    await execute(connection, "update atlasqueue.queues set max_attempts = 2")
    rows = await factory.lease((await factory.session()).session_id, 10)
    assert {row.job_id: row.max_attempts for row in rows} == of_job
    await execute(
        connection,
        "update atlasqueue.leased set attempt = 1, deadline_at = now() - interval '1 s'",
    )
    for row in rows if ended_by == "report" else ():
        await factory.report(row.job_id, row.fence, OutcomeKind.FAIL)
    if ended_by == "deadline":
        await fail_overdue_jobs_if_leader(database, term, 10)
    (waiting,) = await execute(connection, "select job_id::text, attempt from atlasqueue.scheduled")
    assert (of_job[waiting[0]], waiting[1]) == (3, 2)
    dead = await execute(connection, "select attempt, reason::text from atlasqueue.dead_letters")
    assert dead == [(2, "a" if ended_by == "report" else "d")] * 2
