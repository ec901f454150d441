"""A producer and worker in one, on raw stubs, that writes down what it is told."""

from __future__ import annotations

from typing import Any

import grpc

from atlasqueue.errors import from_rpc_error
from atlasqueue.ids import new_job_id
from atlasqueue.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc, worker_service_pb2
from atlasqueue.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.history.events import Cancelled, Delivered, Enqueued, Reported, body_hash, value_hash
from tests.history.recorder import Recorder

PRIORITY = 3


class Clerk:
    """Calls a server and records every answer."""

    def __init__(self, recorder: Recorder, channel: grpc.aio.Channel, queue: str) -> None:
        self._recorder = recorder
        self._jobs = job_service_pb2_grpc.JobServiceStub(channel)
        self._workers = WorkerServiceStub(channel)
        self._queue = queue
        self._sessions: dict[str, int] = {}

    async def enqueue(self, payload: bytes = b"", *, job_id: str = "", kind: str = "work") -> str:
        """Enqueues one job; its id."""
        job_id = job_id or new_job_id()
        job = job_pb2.NewJob(queue=self._queue, job_id=job_id, kind=kind, payload=payload)
        answer = "ok"
        try:
            await self._jobs.Enqueue(job_service_pb2.EnqueueRequest(job=job))
        except grpc.RpcError as error:
            answer = from_rpc_error(error).reason or "UNKNOWN"
        body = body_hash(kind, payload, PRIORITY)
        self._record(Enqueued, "producer", job_id, body=body, answer=answer)
        return job_id

    async def lease(self, worker: str, jobs: int = 1) -> list[worker_service_pb2.LeasedJob]:
        """Leases for a worker, in its session."""
        request = worker_service_pb2.LeaseOnceRequest(
            queues=[self._queue],
            max_jobs=jobs,
            worker=worker,
            session_id=self._sessions.get(worker, 0),
        )
        request.wait.FromSeconds(10)
        response = await self._workers.LeaseOnce(request)
        self._sessions[worker] = response.session.session_id
        for leased in response.jobs:
            self._record(
                Delivered,
                worker,
                leased.job_id,
                fence=leased.fence,
                attempt=leased.attempt,
                crashes=leased.crashes,
                deliveries=leased.deliveries,
                body=body_hash(leased.kind, leased.payload, leased.priority),
            )
        return list(response.jobs)

    async def complete(self, worker: str, job: worker_service_pb2.LeasedJob) -> str:
        """Completes under the job's fence; the answer."""
        result = f"{job.job_id}:{job.fence}".encode()
        outcome = worker_service_pb2.JobOutcome(queue=job.queue, job_id=job.job_id, fence=job.fence)
        outcome.complete.result = result
        response = await self._workers.Report(worker_service_pb2.ReportRequest(outcomes=[outcome]))
        answer = answer_of(response.results[0])
        self._record(
            Reported,
            worker,
            job.job_id,
            fence=job.fence,
            outcome="complete",
            answer=answer,
            state=state_of(response.results[0]),
            result=value_hash(result),
        )
        return answer

    async def cancel(self, job_id: str) -> str:
        """Cancels; the answer."""
        request = job_service_pb2.CancelJobRequest(queue=self._queue, job_id=job_id)
        try:
            response = await self._jobs.CancelJob(request)
        except grpc.RpcError as error:
            answer = from_rpc_error(error).reason or "UNKNOWN"
        else:
            cancelled = response.state == job_pb2.JOB_STATE_CANCELLED
            answer = "cancelled" if cancelled else "requested"
        self._record(Cancelled, "producer", job_id, answer=answer)
        return answer

    def _record(self, kind: Any, who: str, job_id: str, **values: Any) -> None:
        self._recorder.record(kind, who=who, queue=self._queue, job_id=job_id, **values)


def answer_of(result: worker_service_pb2.ReportResult) -> str:
    """applied, already_applied, stale or not_found."""
    name = worker_service_pb2.ReportStatus.Name(result.status)
    return name.removeprefix("REPORT_STATUS_").lower()


def state_of(result: worker_service_pb2.ReportResult) -> str:
    """The state, or "" when the answer tells none."""
    if result.state == job_pb2.JOB_STATE_UNSPECIFIED:
        return ""
    return job_pb2.JobState.Name(result.state).removeprefix("JOB_STATE_").lower()
