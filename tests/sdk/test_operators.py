"""Dead letters, queues, workers and waits of both clients, against a real server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from atlasqueue import (
    AsyncClient,
    Client,
    DeadLetterReason,
    JobCancelled,
    JobDied,
    JobState,
    NewJob,
    QueueNotFound,
    QueuePolicy,
    RetryPolicy,
)
from atlasqueue.v1 import queue_service_pb2, worker_service_pb2
from atlasqueue_worker import App, JobContext, Reject, Worker
from tests.plugins.server import RunningServer
from tests.waiting import eventually

QUEUE = "work"


async def bury(server: RunningServer, client: AsyncClient) -> list[str]:
    """Three dead letters: two of kind `no` that were rejected, one of kind `spent`."""
    app = App()

    @app.job("no", queue=QUEUE)
    def no(job: JobContext) -> None:
        raise Reject("never")

    @app.job("spent", queue=QUEUE)
    def spent(job: JobContext) -> None:
        raise ValueError("no luck")

    once = RetryPolicy(max_attempts=1)
    jobs = [NewJob(QUEUE, kind, retry_policy=once) for kind in ("no", "no", "spent")]
    job_ids = await client.enqueue_many(jobs)
    worker = Worker(app, server.grpc_address, grace=0)
    work = asyncio.create_task(worker.run())

    async def all_dead() -> bool:
        return (await client.queues.depth(QUEUE)).dead == 3

    await eventually(all_dead)
    assert [session.queues for session in await client.workers()] == [(QUEUE,)]
    worker.stop()
    await work
    return job_ids


async def test_dead_letters(server: RunningServer) -> None:
    async with AsyncClient(server.grpc_address) as client:
        job_ids = await bury(server, client)
        dead = client.dead_letters
        listed = [job async for job in dead.list(QUEUE)]
        assert [job.job_id for job in listed] == job_ids
        assert [job.failures[0].message for job in listed] == ["never", "never", "no luck"]
        spent = [job async for job in dead.list(QUEUE, reason=DeadLetterReason.ATTEMPTS_SPENT)]
        assert [job.job_id for job in spent] == job_ids[2:]
        long_ago = datetime.now(UTC) - timedelta(days=1)
        assert not [job async for job in dead.list(QUEUE, died_before=long_ago)]

        assert await dead.redrive(QUEUE, kind="no", dry_run=True) == 2
        assert await dead.redrive(QUEUE, job_ids=job_ids[:1]) == 1
        assert (await client.get(job_ids[0])).state is JobState.READY
        assert await dead.redrive(QUEUE, kind="no") == 1
        assert await dead.purge(QUEUE, dry_run=True) == 1
        assert await dead.purge(QUEUE, job_ids=job_ids[:2]) == 0
        assert await dead.purge(QUEUE) == 1
        depth = await client.queues.depth(QUEUE)
        assert (depth.ready, depth.dead) == (2, 0)
        with pytest.raises(QueueNotFound):
            await dead.redrive("nowhere")


async def test_the_blocking_client_operates_too(server: RunningServer) -> None:
    async with AsyncClient(server.grpc_address) as client:
        job_ids = await bury(server, client)

    def block() -> None:
        with Client(server.grpc_address) as client:
            dead = client.dead_letters
            assert [job.job_id for job in dead.list(QUEUE, kind="no")] == job_ids[:2]
            with pytest.raises(JobDied) as died:
                client.wait(job_ids[0])
            assert died.value.job.dead_letter_reason is DeadLetterReason.REJECTED
            assert dead.redrive(QUEUE, job_ids=job_ids[1:2]) == 1
            assert dead.purge(QUEUE) == 2
            assert client.cancel(job_ids[1]) is JobState.CANCELLED
            with pytest.raises(JobCancelled):
                client.wait(job_ids[1])
            policy = QueuePolicy(visibility_timeout=timedelta(seconds=7))
            assert client.queues.update_policy(QUEUE, policy).policy == policy
            assert client.queues.pause(QUEUE).paused
            assert client.queues.get(QUEUE).paused
            assert not client.queues.resume(QUEUE).paused
            assert [queue.name for queue in client.queues.list()] == [QUEUE]
            assert [server.leader for server in client.cluster().servers] == [True]

    await asyncio.to_thread(block)


async def test_queues_and_workers_come_page_by_page(server: RunningServer) -> None:
    """It showed when a statement was broken on purpose: no test had more queues than one page shows."""
    for name in "abc":
        request = worker_service_pb2.LeaseOnceRequest(queues=[name], worker=name)
        await server.workers.LeaseOnce(request)

    queues = queue_service_pb2.ListQueuesRequest(page_size=2)
    workers = queue_service_pb2.ListWorkersRequest(page_size=2)
    shown: list[list[str]] = []
    for _ in range(2):
        of_queues = await server.queues.ListQueues(queues)
        of_workers = await server.queues.ListWorkers(workers)
        shown.append([queue.name for queue in of_queues.queues])
        shown.append([session.worker for session in of_workers.workers])
        queues.page_token = of_queues.next_page_token
        workers.page_token = of_workers.next_page_token
    assert shown == [["a", "b"], ["c", "b"], ["c"], ["a"]]
    assert (queues.page_token, workers.page_token) == ("", "")
