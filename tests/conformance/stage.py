"""Where cases play: a server process, the link between executor and server, and a rival worker."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import grpc

from atlasqueue import AsyncClient
from atlasqueue.v1 import (
    queue_service_pb2,
    queue_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from tests.chaos.link import Link
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
READY_S = 240.0
LEASE_WAIT_S = 20
PATIENCE_S = 60
EPOCHS_AHEAD = 1000


class Stage:
    """A server on a database, and the address of the link to it."""

    def __init__(self, database_url: str, directory: Path) -> None:
        self.directory = directory
        self.address = f"127.0.0.1:{free_port()}"
        self.link = Link(self.address)
        self.link_address = ""
        self._url = database_url
        self._server: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        """The server answers, and the link leads to it."""
        self.link_address = await self.link.open()
        try:
            await self.start_server()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends the server and the link."""
        await self.close()

    async def start_server(self) -> None:
        """Starts the server, on its old port."""
        command = [sys.executable, "-m", "atlasqueue_server", "serve"]
        command += ["--grpc-port", self.address.rpartition(":")[2], "--http-port", "0"]
        environment = {
            "ATLASQUEUE_DATABASE_URL": self._url,
            "ATLASQUEUE_LEADER_LEASE_SECONDS": "1",
            "ATLASQUEUE_DRAIN_GRACE_SECONDS": "2",
        }
        with (self.directory / "server.log").open("ab") as output:
            self._server = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=ROOT, env=os.environ | environment
            )
        async with AsyncClient(self.address, retry_for=READY_S) as client:
            await client.cluster()

    async def stop_server(self, *, kill: bool) -> None:
        """SIGKILL, or SIGTERM: a clean stop."""
        assert self._server is not None
        if kill:
            self._server.kill()
        else:
            self._server.terminate()
        await asyncio.to_thread(self._server.wait, READY_S)

    async def close(self) -> None:
        """Ends the server and the link."""
        await self.link.close()
        if self._server is not None and self._server.poll() is None:
            await self.stop_server(kill=True)


class Rival:
    """Another worker, on raw stubs and past the link: takes what an SDK's worker has lost."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._workers = worker_service_pb2_grpc.WorkerServiceStub(self._channel)
        self._queues = queue_service_pb2_grpc.QueueServiceStub(self._channel)

    async def patience(self, queue: str) -> dict[str, Any]:
        """Sessions that open from now on last long without a heartbeat, however slow the machine is."""
        request = queue_service_pb2.UpdateQueuePolicyRequest(queue=queue)
        request.policy.visibility_timeout.FromSeconds(PATIENCE_S)
        await self._queues.UpdateQueuePolicy(request)
        return {}

    async def lease(self, queue: str) -> dict[str, Any]:
        """Leases one job of the queue; empty when none comes."""
        request = worker_service_pb2.LeaseOnceRequest(queues=[queue], max_jobs=1, worker="rival")
        request.wait.FromSeconds(LEASE_WAIT_S)
        response = await self._workers.LeaseOnce(request)
        return {
            key: getattr(job, key)
            for job in response.jobs
            for key in ("queue", "job_id", "fence", "attempt", "crashes", "deliveries")
        }

    async def complete(self, job: dict[str, Any], result: bytes) -> dict[str, Any]:
        """Completes it under its fence; the status."""
        outcome = worker_service_pb2.JobOutcome(
            queue=job["queue"], job_id=job["job_id"], fence=job["fence"]
        )
        outcome.complete.result = result
        request = worker_service_pb2.ReportRequest(outcomes=[outcome])
        response = await self._workers.Report(request)
        name = worker_service_pb2.ReportStatus.Name(response.results[0].status)
        return {"status": name.removeprefix("REPORT_STATUS_")}

    async def supersede(self, worker: str) -> dict[str, Any]:
        """Opens the stream of a worker's session again, as another process would."""
        session = await self._session(worker)
        request = worker_service_pb2.LeaseRequest(
            queues=session.queues,
            slots=session.slots,
            worker=worker,
            session_id=session.session_id,
            epoch=session.epoch + EPOCHS_AHEAD,
        )
        stream = self._workers.Lease(request)
        opened = await stream.read()
        stream.cancel()
        return {"epoch": opened.session_opened.epoch}

    async def session(self, worker: str) -> dict[str, Any]:
        """How a worker's session looks from the server; empty when it has none."""
        with suppress(LookupError):
            found = await self._session(worker)
            return {"slots": found.slots, "leased": found.leased, "streaming": found.streaming}
        return {}

    async def _session(self, worker: str) -> queue_service_pb2.WorkerSession:
        answer = await self._queues.ListWorkers(
            queue_service_pb2.ListWorkersRequest(page_size=1000)
        )
        for session in answer.workers:
            if session.worker == worker:
                return session
        raise LookupError(f"no session of a worker {worker}")

    async def close(self) -> None:
        """No more calls."""
        await self._channel.close()
