"""While no server answers, handlers run on, are told, and keep their leases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
from google.rpc import code_pb2, status_pb2
from google.rpc.error_details_pb2 import ErrorInfo

from atlasqueue import AsyncClient, QueuePolicy
from atlasqueue.errors import DETAILS_KEY
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue.v1 import worker_service_pb2_grpc
from atlasqueue_server.app import Application
from atlasqueue_worker import App, JobContext, LeaseState, Worker
from tests.plugins.server import config_for
from tests.ports import free_port
from tests.waiting import eventually, eventually_so

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


class Forgetful(worker_service_pb2_grpc.WorkerServiceServicer):
    """Its streams stay open whatever becomes of their sessions, and its first session is lost."""

    def __init__(self) -> None:
        self.asked: list[wire.LeaseRequest] = []

    async def Lease(self, request: wire.LeaseRequest, context: Any) -> AsyncIterator[Any]:
        """A stream that lives on."""
        self.asked.append(request)
        opened = wire.SessionOpened(session_id=len(self.asked), epoch=1, server_id="forgetful")
        opened.heartbeat_interval.FromMilliseconds(20)
        opened.ping_interval.FromSeconds(3600)
        yield wire.LeaseResponse(session_opened=opened)
        await asyncio.Event().wait()

    async def Heartbeat(self, request: wire.HeartbeatRequest, context: Any) -> Any:
        """The first session is lost."""
        if request.session_id > 1:
            return wire.HeartbeatResponse()
        status = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION)
        status.details.add().Pack(ErrorInfo(reason="SESSION_LOST", domain="atlasqueue"))
        context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "lost")

    async def _never(self, request: Any, context: Any) -> Any:
        raise AssertionError("no job is leased")

    LeaseOnce = Report = _never


async def test_a_session_that_is_lost_ends_its_stream() -> None:
    """How it showed: told so by another server, a worker stayed with a stream whose server had not heard of it yet."""
    server = Forgetful()
    served = grpc.aio.server()
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(server, served)
    port = served.add_insecure_port("127.0.0.1:0")
    await served.start()
    app = App()
    app.job("k", queue=QUEUE)(lambda job: None)
    worker = Worker(app, f"127.0.0.1:{port}", grace=0)
    work = asyncio.create_task(worker.run())
    await eventually_so(lambda: len(server.asked) == 2)
    assert [request.session_id for request in server.asked] == [0, 0]
    worker.stop()
    await work
    await served.stop(None)
