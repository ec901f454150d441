"""While no server answers, handlers run on, are told, and keep their leases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from atlasqueue import AsyncClient, QueuePolicy
from atlasqueue_server.app import Application
from atlasqueue_worker import App, JobContext, LeaseState, Worker
from tests.plugins.server import config_for
from tests.ports import free_port
from tests.waiting import eventually

QUEUE = "work"


async def test_a_running_handler_outlives_its_server(migrated_database_url: str) -> None:
    port = free_port()
    application = Application(config_for(migrated_database_url, grpc_port=port))
    await application.start()
    address = f"127.0.0.1:{port}"
    running: list[JobContext] = []
    finish = asyncio.Event()
    app = App()

    @app.job("long", queue=QUEUE)
    async def long(job: JobContext) -> str:
        running.append(job)
        await finish.wait()
        return "done"

    worker = Worker(app, address, grace=0)
    work = asyncio.create_task(worker.run())
    async with AsyncClient(address) as client:
        # Heartbeats each second; the lease outlasts the outage by far.
        policy = QueuePolicy(visibility_timeout=timedelta(seconds=30))
        await client.queues.update_policy(QUEUE, policy)
        job_id = await client.enqueue(QUEUE, "long")

        async def started() -> bool:
            return bool(running)

        await eventually(started)
        worker._session.clocks.heartbeat = 0.2
        await application.drain()
        await application.stop()
        (job,) = running

        async def uncertain() -> bool:
            return job.lease_state is LeaseState.UNCERTAIN

        await eventually(uncertain, within_s=30)
        assert not job.cancelled
        again = Application(config_for(migrated_database_url, grpc_port=port))
        await again.start()

        async def certain() -> bool:
            return job.lease_state is LeaseState.CERTAIN

        await eventually(certain, within_s=30)
        finish.set()
        done = await client.wait(job_id, timeout=30)
        assert (done.result, done.deliveries, done.crashes) == (b"done", 1, 0)

        # And the worker takes jobs from the new server.
        assert (await client.wait(await client.enqueue(QUEUE, "long"), timeout=30)).deliveries == 1
    worker.stop()
    await work
    await again.drain()
    await again.stop()
