"""cancel by filter: what fits and nothing else, in a dry run nothing, page after page, beside other verbs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from atlasqueue import AsyncClient, InvalidField, JobState, NewJob, QueueNotFound
from atlasqueue.v1 import job_service_pb2, worker_service_pb2
from atlasqueue_server.domain import cancel_many, jobs
from tests.plugins.server import RunningServer

QUEUE = "work"
LATER = datetime.now(UTC) + timedelta(hours=1)


async def leased(server: RunningServer, count: int) -> list[str]:
    """Leases some ready jobs; their ids."""
    request = worker_service_pb2.LeaseOnceRequest(queues=[QUEUE], max_jobs=count, worker="w")
    return [job.job_id for job in (await server.workers.LeaseOnce(request)).jobs]


async def test_only_what_fits_is_cancelled(server: RunningServer) -> None:
    async with AsyncClient(server.grpc_address) as client:
        first = await client.enqueue(QUEUE, "a")
        (held,) = await leased(server, 1)
        assert held == first
        ready_a, ready_b = [await client.enqueue(QUEUE, kind) for kind in "ab"]
        later_a, later_b = [await client.enqueue(QUEUE, kind, run_at=LATER) for kind in "ab"]
        planned = await client.cancel_many(QUEUE, kind="a", dry_run=True)
        assert sorted(planned.cancelled) == sorted([ready_a, later_a])
        assert planned.requested == [held]
        assert (await client.get(ready_a)).state is JobState.READY
        done = await client.cancel_many(QUEUE, kind="a", state=JobState.READY)
        assert (done.cancelled, done.requested) == ([ready_a], [])
        done = await client.cancel_many(QUEUE, kind="a")
        assert (done.cancelled, done.requested) == ([later_a], [held])
        again = await client.cancel_many(QUEUE, kind="a")
        assert (again.cancelled, again.requested) == ([], [])
        assert (await client.get(held)).cancel_requested
        nothing = await client.cancel_many(QUEUE, created_before=LATER - timedelta(hours=2))
        assert not nothing.cancelled
        done = await client.cancel_many(QUEUE, state=JobState.SCHEDULED)
        assert done.cancelled == [later_b]
        assert (await client.get(ready_b)).state is JobState.READY
        depth = await client.queues.depth(QUEUE)
        assert (depth.ready, depth.scheduled, depth.leased, depth.cancelled) == (1, 0, 1, 3)
    # What was only asked for is not cancelled yet, and a dry run counts nothing.
    counted = server.application.metrics.registry.get_sample_value(
        "atlasqueue_jobs_cancelled_total", {"queue": QUEUE, "kind": "_unknown"}
    )
    assert counted == 3


async def test_it_goes_page_by_page(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel_many, "CHUNK", 7)
    monkeypatch.setattr(jobs, "EXAMINED_MAX", 20)
    told: list[int] = []
    async with AsyncClient(server.grpc_address) as client:
        made = [NewJob(QUEUE, "ab"[i % 2], priority=1 + i % 5) for i in range(400)]
        job_ids = await client.enqueue_many(made)
        wanted = sorted(job_ids[1::2])
        for state in (JobState.UNSPECIFIED, JobState.READY):
            planned = await client.cancel_many(QUEUE, kind="b", state=state, dry_run=True)
            assert sorted(planned.cancelled) == wanted
        done = await client.cancel_many(QUEUE, kind="b", progress=told.append)
        assert sorted(done.cancelled) == wanted
        assert told == sorted(told)
        assert told[-1] == 200
        assert len(told) > 2
        assert (await client.queues.depth(QUEUE)).ready == 200


async def test_beside_leases_and_itself_every_job_is_cancelled_once(server: RunningServer) -> None:
    """Two of them and a worker at once: no deadlock, and each job ends in one place."""
    async with AsyncClient(server.grpc_address) as client:
        job_ids = await client.enqueue_many([NewJob(QUEUE, "k") for _ in range(3000)])
        one, other, *held = await asyncio.gather(
            client.cancel_many(QUEUE),
            client.cancel_many(QUEUE, state=JobState.READY),
            *(leased(server, 50) for _ in range(8)),
        )
        rest = await client.cancel_many(QUEUE)
        cancelled = [*one.cancelled, *other.cancelled, *rest.cancelled]
        requested = [*one.requested, *rest.requested]
        assert not other.requested, "a job that was leased meanwhile is spared"
        assert len(set(cancelled)) == len(cancelled)
        assert sorted(requested) == sorted(job_id for ids in held for job_id in ids)
        assert sorted([*cancelled, *requested]) == sorted(job_ids)


async def test_what_is_wrong_is_said(server: RunningServer) -> None:
    async with AsyncClient(server.grpc_address) as client:
        with pytest.raises(QueueNotFound):
            await client.cancel_many("nowhere")
        with pytest.raises(InvalidField, match="SCHEDULED, READY or LEASED"):
            await client.cancel_many(QUEUE, state=JobState.DEAD)


async def test_what_another_verb_holds_is_left_to_the_next_page(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten tries, some 20 ms, such a job was passed over: neither cancelled nor asked for, and no page followed."""
    monkeypatch.setattr(cancel_many, "CHUNK", 2)
    async with AsyncClient(server.grpc_address) as client:
        job_ids = sorted(await client.enqueue_many([NewJob(QUEUE, "k") for _ in range(5)]))
        request = job_service_pb2.CancelJobsRequest(queue=QUEUE)
        async with server.application.database.connection() as other, other.transaction():
            await other.execute(
                "select 1 from atlasqueue.ready r join atlasqueue.jobs j on r.seq = j.ready_seq"
                " where j.job_id = %s for update of r",
                [job_ids[3]],
            )
            page = await server.jobs.CancelJobs(request)
            assert sorted(page.cancelled_job_ids) == job_ids[:3]
            request.page_token = page.next_page_token
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await server.jobs.CancelJobs(request)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        page = await server.jobs.CancelJobs(request)
        assert sorted(page.cancelled_job_ids) == job_ids[3:]
        assert not page.next_page_token
