"""A worker made of bare RPCs, so that a test decides what it says and when."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from atlasqueue.v1 import worker_service_pb2
from tests.plugins.server import RunningServer

HeldJob = worker_service_pb2.HeldJob
WITHIN_S = 20.0


class BareStream:
    """An open lease stream; the session is named by its first event."""

    def __init__(self, server: RunningServer, queues: Iterable[str], slots: int, **terms: Any):
        self.server = server
        self.call: Any = server.workers.Lease(
            worker_service_pb2.LeaseRequest(queues=list(queues), slots=slots, worker="w", **terms)
        )
        self.session_id = 0
        self.epoch = 0
        self.jobs: list[worker_service_pb2.LeasedJob] = []

    async def opened(self) -> BareStream:
        """Waits for the first event."""
        event = await self.next("session_opened")
        self.session_id, self.epoch = event.session_id, event.epoch
        return self

    async def next(self, kind: str) -> Any:
        """The next event of this kind; jobs on the way are kept, pings passed over."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                event = await self.call.read()
                found = event.WhichOneof("event")
                if found == "leased_jobs":
                    self.jobs += event.leased_jobs.jobs
                if found == kind:
                    return getattr(event, found)

    async def reopen(self, server: RunningServer, slots: int, last_fence: int = 0) -> BareStream:
        """The same session on a server, under the next epoch; this stream is left as it is."""
        newer = BareStream(
            server,
            ["work"],
            slots,
            session_id=self.session_id,
            epoch=self.epoch + 1,
            last_fence=last_fence,
        )
        return await newer.opened()

    async def heartbeat(
        self, server: RunningServer, held: Iterable[Any] = (), last_fence: int = 0
    ) -> worker_service_pb2.HeartbeatResponse:
        """A heartbeat that holds the jobs, on any server."""
        request = worker_service_pb2.HeartbeatRequest(
            session_id=self.session_id,
            epoch=self.epoch,
            held=[HeldJob(queue=j.queue, job_id=j.job_id, fence=j.fence) for j in held],
            last_fence=last_fence,
        )
        return await server.workers.Heartbeat(request)

    async def complete(self, server: RunningServer, job: Any) -> str:
        """Reports a job as done on any server; the status's name."""
        outcome = worker_service_pb2.JobOutcome(
            queue=job.queue,
            job_id=job.job_id,
            fence=job.fence,
            complete=worker_service_pb2.Complete(result=b"bare"),
        )
        request = worker_service_pb2.ReportRequest(session_id=self.session_id, outcomes=[outcome])
        (result,) = (await server.workers.Report(request)).results
        return worker_service_pb2.ReportStatus.Name(result.status).removeprefix("REPORT_STATUS_")
