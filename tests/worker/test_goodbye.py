"""What was on its way to a worker when it stopped goes back at once."""

from __future__ import annotations

import asyncio

import pytest

from atlasqueue import AsyncClient, JobState
from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker import App, JobContext, Worker
from tests.plugins.server import RunningServer


async def test_a_job_on_its_way_to_a_worker_that_stops_goes_back(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It showed on a busy machine as a job that stayed leased for the visibility timeout, and counted a
    crash then: the worker had closed its stream before it read the job from it."""
    app = App()

    @app.job("resize", queue="media")
    async def never(_job: JobContext) -> None:
        raise AssertionError("no job arrives")

    worker = Worker(app, server.grpc_address)
    handle = worker.stream._handle
    sent = asyncio.Event()

    def lose_jobs(event: worker_service_pb2.LeaseResponse) -> None:
        if event.WhichOneof("event") == "leased_jobs":
            sent.set()
        else:
            handle(event)

    monkeypatch.setattr(worker.stream, "_handle", lose_jobs)
    running = asyncio.create_task(worker.run())
    async with AsyncClient(server.grpc_address) as client:
        job_id = await client.enqueue("media", "resize")
        await sent.wait()
        worker.stop()
        await running
        job = await client.get(job_id)
    assert (job.state, job.attempt, job.crashes) == (JobState.READY, 0, 0)
