"""Each list of jobs goes by its filters, and goes on behind the last job of the page before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from atlasqueue_server.domain.jobs import Jobs
from atlasqueue_server.domain.pages import PageToken
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.jobs import JobFilter, OutcomeKind
from atlasqueue_server.model.states import State
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.jobs import get_jobs
from tests.factories import Factory, execute

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("state", [None, *State])
async def test_a_list_goes_by_its_filters(
    database: Database, connection: Any, factory: Factory, state: State | None
) -> None:
    """It showed when statements were broken on purpose: only the list of ready jobs was asked for a kind."""
    jobs = Jobs(database, Queues(database, Signals()))
    ids = []
    for at in range(4):
        if state in (None, State.READY):
            job_id = (await factory.enqueue(kind="ab"[at % 2], priority=5 - at)).job_id
        else:
            job_id = (await factory.job_in(state, kind="ab"[at % 2])).job_id
        ids.append(job_id)
        await execute(
            connection,
            "update atlasqueue.jobs set created_at = %(at)s where job_id = %(job_id)s",
            at=CREATED + at * SECOND,
            job_id=job_id,
        )
    in_order = list(reversed(ids)) if state is State.READY else sorted(ids)

    async def listed(page_size: int = 10, **filters: Any) -> list[int]:
        found: list[str] = []
        token: PageToken | None = PageToken()
        while token is not None:
            wanted = JobFilter(state, **filters)
            page, token = await jobs.ids("mail", wanted, page_size, token)
            found += [job_id for job_id, _ in page]
        assert found == [job_id for job_id in in_order if job_id in found]
        return sorted(ids.index(job_id) for job_id in found)

    assert await listed() == await listed(1) == [0, 1, 2, 3]
    assert await listed(kind="b") == [1, 3]
    assert await listed(created_after=CREATED + SECOND) == [1, 2, 3]
    assert await listed(created_before=CREATED + SECOND) == [0]
    others = {State.SUCCEEDED: State.CANCELLED, State.CANCELLED: State.SUCCEEDED}
    if state in others:
        nothing = await jobs.ids("mail", JobFilter(others[state]), 10, PageToken())
        assert nothing == ([], None)


async def test_a_job_is_shown_with_the_time_that_it_waits_for(
    database: Database, factory: Factory
) -> None:
    """Not with the one that it was enqueued for."""
    at = await factory.job_in(State.LEASED)
    await factory.report(at.job_id, at.fence, OutcomeKind.SNOOZE, delay_ms=3_600_000)
    (job,) = await get_jobs(database, at.queue, [at.job_id], whole=False)
    assert job.run_at is not None
    assert timedelta(minutes=50) < job.run_at - datetime.now(UTC) < timedelta(minutes=70)
