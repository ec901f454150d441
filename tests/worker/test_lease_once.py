"""LeaseOnce: a poll that waits, over several queues, on a server that may drain meanwhile."""

from __future__ import annotations

import asyncio
import time

import pytest
from google.protobuf.duration_pb2 import Duration

from atlasqueue.v1 import job_pb2, job_service_pb2, queue_service_pb2, worker_service_pb2
from tests.factories import execute
from tests.plugins.server import RunningServer
from tests.waiting import eventually


async def enqueue(server: RunningServer, queue: str) -> str:
    """A job's id."""
    request = job_service_pb2.EnqueueRequest(job=job_pb2.NewJob(queue=queue, kind="k"))
    return str((await server.jobs.Enqueue(request)).job_id)


async def poll(
    server: RunningServer, *queues: str, wait_s: int = 0
) -> worker_service_pb2.LeaseOnceResponse:
    """One LeaseOnce."""
    request = worker_service_pb2.LeaseOnceRequest(
        queues=queues, worker="w", wait=Duration(seconds=wait_s)
    )
    return await server.workers.LeaseOnce(request)


@pytest.mark.parametrize("queues", [("empty", "full"), ("full", "empty"), ("a", "b", "full")])
async def test_without_a_wait_every_queue_is_looked_into(
    server: RunningServer, queues: tuple[str, ...]
) -> None:
    """How it showed: only the first queue was, and jobs of the second never came."""
    job_id = await enqueue(server, "full")
    response = await poll(server, *queues)
    assert [job.job_id for job in response.jobs] == [job_id]
    assert not (await poll(server, *queues)).jobs


async def test_a_job_that_comes_meanwhile_ends_the_wait(server: RunningServer) -> None:
    waiting = asyncio.create_task(poll(server, "empty", "full", wait_s=60))
    await asyncio.sleep(0.2)
    job_id = await enqueue(server, "full")
    async with asyncio.timeout(20):
        assert [job.job_id for job in (await waiting).jobs] == [job_id]


async def test_a_drain_ends_the_wait_and_leases_nothing_more(server: RunningServer) -> None:
    """How it showed: a poll of a minute held the drain up for its whole grace, and took jobs meanwhile."""
    waiting = asyncio.create_task(poll(server, "full", wait_s=60))
    while not server.application.dispatcher._polls:
        await asyncio.sleep(0.01)
    began = time.monotonic()
    await server.application.drain()
    job_id = await enqueue(server, "full")
    assert not (await waiting).jobs
    assert time.monotonic() - began < 30
    read = await server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id))
    assert read.job.state == job_pb2.JOB_STATE_READY


async def test_a_session_lives_while_its_poll_waits(server: RunningServer) -> None:
    """How it showed: a wait longer than the visibility timeout leased jobs for a session that was lost by then. Each
    counted a crash while its worker ran it, and after three it was a dead letter.
    """
    policy = queue_service_pb2.QueuePolicy(visibility_timeout=Duration(seconds=1))
    await server.queues.UpdateQueuePolicy(
        queue_service_pb2.UpdateQueuePolicyRequest(queue="full", policy=policy)
    )
    waiting = asyncio.create_task(poll(server, "full", wait_s=60))

    async def outlived_its_first_second() -> bool:
        async with server.application.database.connection() as connection:
            rows = await execute(
                connection,
                "select 1 from atlasqueue.sessions"
                " where not lost and expires_at > opened_at + interval '2.5 s'",
            )
        return rows == [(1,)]

    await eventually(outlived_its_first_second)
    job_id = await enqueue(server, "full")
    (job,) = (await waiting).jobs
    assert (job.job_id, job.deliveries) == (job_id, 1)
    done = worker_service_pb2.JobOutcome(
        queue="full", job_id=job_id, fence=job.fence, complete=worker_service_pb2.Complete()
    )
    (result,) = (
        await server.workers.Report(worker_service_pb2.ReportRequest(outcomes=[done]))
    ).results
    assert result.status == worker_service_pb2.REPORT_STATUS_APPLIED
