"""Jobs in columns, as a client reads and writes them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue.v1 import worker_service_pb2 as wire
from tests.plugins.server import RunningServer

QUEUE = "columns"


def apart(uniform: wire.UniformLeases) -> list[wire.LeasedJob]:
    """The jobs of a sort, each as it would have come alone."""
    ids, jobs = uniform.job_ids, []
    assert len(ids) == 16 * len(uniform.fences)
    for at, (fence, payload) in enumerate(zip(uniform.fences, uniform.payloads, strict=True)):
        job = wire.LeasedJob()
        job.CopyFrom(uniform.shared)
        assert (job.job_id, job.fence, job.payload) == ("", 0, b"")
        job.job_id = str(uuid.UUID(bytes=ids[16 * at : 16 * at + 16]))
        job.fence, job.payload = fence, payload
        jobs.append(job)
    return jobs


def all_of(leased: wire.LeasedJobs) -> list[wire.LeasedJob]:
    """The jobs of an event in both forms."""
    return [*leased.jobs, *(job for uniform in leased.uniform for job in apart(uniform))]


def completed(jobs: Iterable[wire.LeasedJob], queue: str = QUEUE) -> wire.CompletedJobs:
    """That these have succeeded without a result."""
    jobs = list(jobs)
    ids = b"".join(uuid.UUID(job.job_id).bytes for job in jobs)
    return wire.CompletedJobs(queue=queue, job_ids=ids, fences=[job.fence for job in jobs])


def outcome(job: wire.LeasedJob, **told: Any) -> wire.JobOutcome:
    """What became of a job, one of the verbs."""
    return wire.JobOutcome(queue=job.queue, job_id=job.job_id, fence=job.fence, **told)


async def enqueue(server: RunningServer, count: int, **fields: Any) -> list[str]:
    """Jobs whose payload is their own id; their ids, in the order in which a call stores them."""
    of_kind = {"queue": QUEUE, "kind": "k"} | fields
    ids = sorted(str(uuid.uuid4()) for _ in range(count))
    jobs = [job_pb2.NewJob(job_id=job_id, payload=job_id.encode(), **of_kind) for job_id in ids]
    results = (
        await server.jobs.EnqueueBatch(job_service_pb2.EnqueueBatchRequest(jobs=jobs))
    ).results
    assert not any(result.HasField("error") for result in results)
    return ids


async def lease(server: RunningServer, count: int, queue: str = QUEUE) -> wire.LeaseOnceResponse:
    """That many jobs of a queue, leased at once."""
    request = wire.LeaseOnceRequest(queues=[queue], worker="w", max_jobs=count)
    response = await server.workers.LeaseOnce(request)
    assert len(response.jobs) == count
    return response


async def enqueue_and_lease(
    server: RunningServer, count: int, queue: str = QUEUE
) -> list[wire.LeasedJob]:
    """New jobs, leased."""
    await enqueue(server, count, queue=queue)
    return list((await lease(server, count, queue)).jobs)


class Reading:
    """An open stream."""

    def __init__(self, call: Any, session_id: int) -> None:
        self._call = call
        self.session_id = session_id

    async def jobs(self, count: int) -> list[wire.LeasedJobs]:
        """The events that bring the next `count` jobs."""
        events: list[wire.LeasedJobs] = []
        while (left := count - sum(len(all_of(event)) for event in events)) > 0:
            response = await self._call.read()
            if response.WhichOneof("event") == "leased_jobs":
                events.append(response.leased_jobs)
        assert left == 0
        return events


@asynccontextmanager
async def stream(server: RunningServer, slots: int, **asked: Any) -> AsyncIterator[Reading]:
    """A stream of the queue."""
    queues: Sequence[str] = asked.pop("queues", [QUEUE])
    call = server.workers.Lease(
        wire.LeaseRequest(queues=queues, slots=slots, worker="w", **asked), timeout=60
    )
    opened = await call.read()
    yield Reading(call, opened.session_opened.session_id)
    call.cancel()
