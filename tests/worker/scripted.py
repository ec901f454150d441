"""A server that says what a test tells it to, for the worker's parts alone."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from atlasqueue.errors import (
    DETAILS_KEY,
    DOMAIN,
    AtlasQueueError,
    DeadlineExceeded,
    InternalError,
    InvalidField,
    MessageTooLarge,
)
from atlasqueue.jobs import to_duration
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue.v1 import worker_service_pb2_grpc
from atlasqueue_worker import JobContext
from atlasqueue_worker.job import ID_BYTES, leased_together
from tests.ports import free_port

WITHIN_S = 20.0
# At the end of a stream's events: the server ends it. Without it, the stream stays open and silent.
END = object()

Refusal = type[AtlasQueueError]
# Of errors that have no reason of their own.
CODES = {
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    InternalError: grpc.StatusCode.INTERNAL,
    MessageTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class Scripted(worker_service_pb2_grpc.WorkerServiceServicer):
    """Answers as it was told: a class of error is a refusal, an event is waited for before the next answer. When nothing
    is left, heartbeats are answered and streams stay silent. Reports are refused by `refusals`, one each, and then answered
    by `status`, in columns by `statuses`."""

    def __init__(self) -> None:
        self.heartbeats: list[wire.HeartbeatRequest] = []
        # How long a heartbeat waits for its answer, seconds.
        self.patience: list[float] = []
        self.answers: deque[wire.HeartbeatResponse | Refusal | asyncio.Event] = deque()
        self.leases: list[wire.LeaseRequest] = []
        self.streams: deque[Sequence[wire.LeaseResponse | Refusal | object]] = deque()
        self.reports: list[list[wire.JobOutcome]] = []
        # Of each report: the fences of its columns, by queue.
        self.columns: list[dict[str, list[int]]] = []
        # False: a server that is older than columns.
        self.reads_columns = True
        # Of fences in columns, where it is another than `status`.
        self.statuses: dict[int, wire.ReportStatus] = {}
        self.refusals: deque[Refusal] = deque()
        self.status: wire.ReportStatus = wire.REPORT_STATUS_APPLIED
        self.address = f"127.0.0.1:{free_port()}"

    async def Heartbeat(self, request: wire.HeartbeatRequest, context: Any) -> Any:
        """One heartbeat."""
        self.heartbeats.append(request)
        self.patience.append(context.time_remaining())
        answer = None
        while self.answers and (answer is None or isinstance(answer, asyncio.Event)):
            answer = self.answers.popleft()
            if isinstance(answer, asyncio.Event):
                await answer.wait()
        if isinstance(answer, type):
            await _refuse(context, answer)
        return answer if isinstance(answer, wire.HeartbeatResponse) else wire.HeartbeatResponse()

    async def Report(self, request: wire.ReportRequest, context: Any) -> Any:
        """One report."""
        self.reports.append(list(request.outcomes))
        self.columns.append({jobs.queue: list(jobs.fences) for jobs in request.completed})
        if self.refusals:
            await _refuse(context, self.refusals.popleft())
        if not (request.outcomes or self.reads_columns):
            await _refuse(context, InvalidField)
        return wire.ReportResponse(
            results=[wire.ReportResult(status=self.status) for _ in request.outcomes],
            completed=map(self._completed, request.completed) if self.reads_columns else (),
        )

    def _completed(self, jobs: wire.CompletedJobs) -> wire.CompletedResult:
        assert len(jobs.job_ids) == ID_BYTES * len(jobs.fences)
        statuses = {fence: self.statuses.get(fence, self.status) for fence in jobs.fences}
        return wire.CompletedResult(
            others=[
                wire.ReportResult(fence=fence, status=status)
                for fence, status in statuses.items()
                if status != wire.REPORT_STATUS_APPLIED
            ]
        )

    async def Lease(self, request: wire.LeaseRequest, context: Any) -> AsyncIterator[Any]:
        """One stream."""
        self.leases.append(request)
        for event in self.streams.popleft() if self.streams else ():
            if event is END:
                return
            if isinstance(event, type):
                await _refuse(context, event)
            yield event
        await asyncio.Event().wait()


async def _refuse(context: Any, error: Refusal) -> None:
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=error.reason or "", domain=DOMAIN))
    code = CODES.get(error, grpc.StatusCode.UNAVAILABLE)
    status = status_pb2.Status(code=code.value[0], details=[info])
    await context.abort(
        code,
        "as the test says",
        trailing_metadata=((DETAILS_KEY, status.SerializeToString()),),
    )


@asynccontextmanager
async def serving(*servers: Scripted) -> AsyncIterator[list[str]]:
    """The servers' addresses, while they listen."""
    running = []
    for server in servers:
        served = grpc.aio.server()
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(server, served)
        served.add_insecure_port(server.address)
        await served.start()
        running.append(served)
    yield [server.address for server in servers]
    for served in running:
        await served.stop(None)


def opened(
    session_id: int = 7, epoch: int = 1, *, heartbeat_s: float = 60.0, ping_s: float = 60.0
) -> wire.SessionOpened:
    """A session, with intervals that no test waits for."""
    return wire.SessionOpened(
        session_id=session_id,
        epoch=epoch,
        visibility_timeout=to_duration(timedelta(seconds=60)),
        heartbeat_interval=to_duration(timedelta(seconds=heartbeat_s)),
        ping_interval=to_duration(timedelta(seconds=ping_s)),
    )


def leased(fence: int) -> wire.LeasedJob:
    """A job on the wire."""
    return wire.LeasedJob(queue="q", job_id=f"j{fence}", fence=fence, kind="do")


def id_of(fence: int) -> uuid.UUID:
    """The id of a job in a column."""
    return uuid.UUID(int=fence)


def uniform(*fences: int, **shared: Any) -> wire.UniformLeases:
    """Jobs of a sort on the wire; the payload of each is its fence."""
    return wire.UniformLeases(
        shared=wire.LeasedJob(**{"queue": "q", "kind": "do"} | shared),
        job_ids=b"".join(id_of(fence).bytes for fence in fences),
        fences=fences,
        payloads=[str(fence).encode() for fence in fences],
    )


def jobs_together(*fences: int, **shared: Any) -> list[JobContext]:
    """Jobs of a sort, as they came from a server."""
    return leased_together(uniform(*fences, **shared))


def brings(*fences: int) -> list[object]:
    """The events of a stream that brings jobs."""
    jobs = wire.LeasedJobs(jobs=[leased(fence) for fence in fences])
    return [wire.LeaseResponse(session_opened=opened()), wire.LeaseResponse(leased_jobs=jobs)]


def job(fence: int = 1) -> JobContext:
    """A job, as it came from a server."""
    return JobContext(leased(fence))
