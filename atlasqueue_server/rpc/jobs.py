"""JobService."""

from __future__ import annotations

from collections.abc import AsyncIterator

from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue_server.domain.cancel import Canceller
from atlasqueue_server.domain.cancel_many import ManyCanceller
from atlasqueue_server.domain.enqueue import Enqueuer
from atlasqueue_server.domain.jobs import Jobs, order_of
from atlasqueue_server.domain.pages import PageToken
from atlasqueue_server.domain.watch import Watcher
from atlasqueue_server.model.errors import InvalidField
from atlasqueue_server.model.jobs import JobFilter
from atlasqueue_server.model.states import OPEN
from atlasqueue_server.rpc import batch, convert_in, convert_out
from atlasqueue_server.rpc.codes import STATES, STATES_IN
from atlasqueue_server.rpc.validate import Checker


class JobHandlers:
    """Proto in, one domain verb, proto out."""

    def __init__(
        self,
        enqueuer: Enqueuer,
        jobs: Jobs,
        canceller: Canceller,
        many_canceller: ManyCanceller,
        watcher: Watcher,
    ) -> None:
        self._enqueuer = enqueuer
        self._jobs = jobs
        self._canceller = canceller
        self._many_canceller = many_canceller
        self._watcher = watcher

    async def enqueue(
        self, request: job_service_pb2.EnqueueRequest
    ) -> job_service_pb2.EnqueueResponse:
        """Stores one job."""
        job = convert_in.sound_job(request.job) or batch.judge("job.", request.job)
        if isinstance(job, InvalidField):
            raise job
        (error,) = await self._enqueuer.enqueue([job])
        if error is not None:
            raise error
        return job_service_pb2.EnqueueResponse(queue=job.queue, job_id=job.job_id)

    async def enqueue_batch(
        self, request: job_service_pb2.EnqueueBatchRequest
    ) -> job_service_pb2.EnqueueBatchResponse:
        """Stores many jobs, each judged on its own."""
        return await batch.enqueue(self._enqueuer, request)

    async def get_job(
        self, request: job_service_pb2.GetJobRequest
    ) -> job_service_pb2.GetJobResponse:
        """Reads one job."""
        queue, job_id = _named(request)
        return job_service_pb2.GetJobResponse(
            job=convert_out.job(await self._jobs.get(queue, job_id))
        )

    async def list_jobs(
        self, request: job_service_pb2.ListJobsRequest
    ) -> job_service_pb2.ListJobsResponse:
        """Lists a queue's jobs."""
        check = Checker()
        queue, wanted = _filter(check, request)
        page_size = check.page_size(request.page_size)
        text = check.page_token(request.page_token)
        check.raise_if_refused()
        token = PageToken.decode(text, order_of(wanted))
        jobs, following = await self._jobs.page(queue, wanted, page_size, token)
        return job_service_pb2.ListJobsResponse(
            jobs=[convert_out.job(job) for job in jobs],
            next_page_token=following.encode() if following else "",
        )

    async def cancel_job(
        self, request: job_service_pb2.CancelJobRequest
    ) -> job_service_pb2.CancelJobResponse:
        """Cancels a job."""
        queue, job_id = _named(request)
        state = await self._canceller.cancel(queue, job_id)
        return job_service_pb2.CancelJobResponse(state=STATES[state])

    async def cancel_jobs(
        self, request: job_service_pb2.CancelJobsRequest
    ) -> job_service_pb2.CancelJobsResponse:
        """Cancels jobs by filter."""
        check = Checker()
        queue, wanted = _filter(check, request)
        if wanted.state not in (None, *OPEN):
            check.refuse(
                "state", "must be SCHEDULED, READY or LEASED: the others are never cancelled"
            )
        text = check.page_token(request.page_token)
        check.raise_if_refused()
        token = PageToken.decode(text, order_of(wanted))
        done = await self._many_canceller.cancel(queue, wanted, token, dry_run=request.dry_run)
        return job_service_pb2.CancelJobsResponse(
            cancelled_job_ids=done.cancelled,
            requested_job_ids=done.requested,
            next_page_token=done.following.encode() if done.following else "",
        )

    async def watch_job(
        self, request: job_service_pb2.WatchJobRequest
    ) -> AsyncIterator[job_service_pb2.WatchJobResponse]:
        """Follows a job."""
        queue, job_id = _named(request)
        async for job in self._watcher.watch(queue, job_id):
            yield job_service_pb2.WatchJobResponse(job=convert_out.job(job))


def _named(
    request: job_service_pb2.GetJobRequest
    | job_service_pb2.CancelJobRequest
    | job_service_pb2.WatchJobRequest,
) -> tuple[str, str]:
    check = Checker()
    queue = check.optional_name("queue", request.queue)
    job_id = check.job_id("job_id", request.job_id)
    check.raise_if_refused()
    return queue, job_id


def _filter(
    check: Checker, request: job_service_pb2.ListJobsRequest | job_service_pb2.CancelJobsRequest
) -> tuple[str, JobFilter]:
    queue = check.name("queue", request.queue)
    check.enum("state", request.state, job_pb2.JobState.DESCRIPTOR)
    return queue, JobFilter(
        STATES_IN.get(request.state),
        check.optional_name("kind", request.kind) or None,
        check.time("created_after", request.created_after)
        if request.HasField("created_after")
        else None,
        check.time("created_before", request.created_before)
        if request.HasField("created_before")
        else None,
    )
