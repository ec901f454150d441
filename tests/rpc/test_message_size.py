"""No answer is over 4 MiB, whatever was stored: clients with gRPC's own limit must be able to read it."""

from __future__ import annotations

from typing import Any

from atlasqueue.v1 import job_pb2, job_service_pb2, queue_service_pb2, worker_service_pb2
from atlasqueue_server.model import limits
from tests.plugins.server import RunningServer
from tests.waiting import eventually

QUEUE = "large"


async def enqueue(server: RunningServer, count: int, **fields: Any) -> None:
    """Jobs of one size, in messages that fit."""
    job = job_pb2.NewJob(queue=QUEUE, kind="k", **fields)
    most = max(1, min(2000, limits.MESSAGE_CUT_BYTES // job.ByteSize()))
    for start in range(0, count, most):
        jobs = [job] * min(most, count - start)
        request = job_service_pb2.EnqueueBatchRequest(jobs=jobs)
        results = (await server.jobs.EnqueueBatch(request)).results
        assert not any(result.HasField("error") for result in results)


async def lease_once(server: RunningServer, **fields: Any) -> Any:
    """One LeaseOnce of the queue."""
    request = worker_service_pb2.LeaseOnceRequest(queues=[QUEUE], worker="w", **fields)
    return await server.workers.LeaseOnce(request)


async def depth(server: RunningServer) -> Any:
    """The queue's depth."""
    request = queue_service_pb2.GetDepthRequest(queue=QUEUE)
    return (await server.queues.GetDepth(request)).depth


async def test_lease_once_gives_back_what_its_answer_cannot_carry(server: RunningServer) -> None:
    """How it showed: 12 jobs of 1 MiB came as one message of 12 MiB, which no client accepted."""
    await enqueue(server, 8, payload=b"x" * limits.PAYLOAD_BYTES_MAX)
    response = await lease_once(server, max_jobs=8)
    assert 1 <= len(response.jobs) <= 3
    assert response.ByteSize() <= limits.MESSAGE_BYTES_MAX

    async def given_back() -> bool:
        found = await depth(server)
        return (found.ready, found.leased) == (8 - len(response.jobs), len(response.jobs))

    await eventually(given_back)
    seen = {job.job_id: job.attempt for job in response.jobs}
    while len(seen) < 8:
        response = await lease_once(server, max_jobs=8)
        seen |= {job.job_id: job.attempt for job in response.jobs}
    assert set(seen.values()) == {0}


async def test_pages_of_jobs_are_cut_by_bytes(server: RunningServer) -> None:
    """How it showed: a page of 1000 jobs with headers of 8 KB had 8 MB."""
    await enqueue(server, 600, headers={"h": "x" * 8000})
    for state in (job_pb2.JOB_STATE_UNSPECIFIED, job_pb2.JOB_STATE_READY):
        request = job_service_pb2.ListJobsRequest(queue=QUEUE, state=state, page_size=1000)
        seen: list[str] = []
        pages = 0
        while not pages or request.page_token:
            page = await server.jobs.ListJobs(request)
            assert page.ByteSize() <= limits.MESSAGE_BYTES_MAX
            seen += [job.job_id for job in page.jobs]
            request.page_token = page.next_page_token
            pages += 1
        assert pages == 2
        assert len(seen) == len(set(seen)) == 600


async def test_pages_of_dead_letters_are_cut_by_bytes(server: RunningServer) -> None:
    """How it showed: 500 dead letters with stacks of 16 KB came as one message of 14 MB."""
    await enqueue(server, 300)
    jobs = (await lease_once(server, max_jobs=300)).jobs
    assert len(jobs) == 300
    error = job_pb2.JobError(type="T", message="m" * 4096, stack="s" * 16_384)
    outcomes = [
        worker_service_pb2.JobOutcome(
            queue=QUEUE,
            job_id=job.job_id,
            fence=job.fence,
            reject=worker_service_pb2.Reject(error=error),
        )
        for job in jobs
    ]
    for start in range(0, 300, 100):
        request = worker_service_pb2.ReportRequest(outcomes=outcomes[start : start + 100])
        await server.workers.Report(request)
    listing = queue_service_pb2.ListDeadLettersRequest(queue=QUEUE, page_size=1000)
    seen: list[str] = []
    while not seen or listing.page_token:
        page = await server.queues.ListDeadLetters(listing)
        assert page.ByteSize() <= limits.MESSAGE_BYTES_MAX
        assert all(job.failures[0].error == error for job in page.jobs)
        seen += [job.job_id for job in page.jobs]
        listing.page_token = page.next_page_token
    assert sorted(seen) == sorted(job.job_id for job in jobs)


async def test_a_batch_of_refusals_fits_into_its_answer(server: RunningServer) -> None:
    """How it showed: 10 000 refusals came as 7.6 MB, so that nobody was told what had been stored."""
    bad = job_pb2.NewJob(queue="é" * 50, kind="", priority=9, job_id="x" * 100)
    good = job_pb2.NewJob(queue=QUEUE, kind="k")
    request = job_service_pb2.EnqueueBatchRequest(jobs=[*[bad] * 9999, good])
    response = await server.jobs.EnqueueBatch(request)
    assert response.ByteSize() <= limits.MESSAGE_BYTES_MAX
    *refused, stored = response.results
    assert not stored.HasField("error")
    assert "jobs[0].queue" in refused[0].error.message
    assert len(refused[0].error.details) == 2
    assert {len(result.error.details) for result in refused} == {1, 2}
    assert all(result.error.message.startswith("jobs[") for result in refused)
