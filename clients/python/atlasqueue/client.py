# Generated from async_client.py by scripts/async_to_sync.py (`make generate`). Do not edit.
"""The client for producers and operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType

from atlasqueue.batches import Batch, batches
from atlasqueue.calls import Calls
from atlasqueue.channel import Tls
from atlasqueue.errors import (
    AtlasQueueError,
    EnqueueManyError,
    InvalidField,
    JobCancelled,
    JobDied,
    MessageTooLarge,
    Unavailable,
)
from atlasqueue.ids import new_job_id
from atlasqueue.jobs import (
    CancelledJobs,
    Job,
    JobState,
    NewJob,
    RetryPolicy,
    filled,
    job_from_proto,
    known,
    new_job_to_proto,
    to_timestamp,
)
from atlasqueue.operators import DeadLetters, Queues
from atlasqueue.queues import Cluster, WorkerSession, cluster_from_proto, worker_from_proto
from atlasqueue.tracing import producing
from atlasqueue.v1 import job_service_pb2, queue_service_pb2


class Client:
    """Enqueues jobs, reads them, waits for their results; operates queues and dead letters.

    >>> with Client("127.0.0.1:7420") as client:
    ...     job_id = client.enqueue("media", "resize", b"cat.png")
    ...     job = client.wait(job_id)

    Args:
        addresses: host:port, several with commas or as a list; default: ATLASQUEUE_ADDRESS, else
            127.0.0.1:7420. When one does not answer, the next one is called.
        tls: files for TLS; default: plain text.
        timeout: seconds that one try of a call may take, more than 0.
        retry_for: seconds for which a call is repeated while no server answers; 0: it is not.
        before_enqueue: functions that see each new job before it is sent and return it, or another one;
            called in order. What one raises, the caller gets, and that job is not sent.

    Every call is safe to repeat and is repeated: the ids of jobs are made before they are sent.
    Raises subclasses of AtlasQueueError.
    """

    def __init__(
        self,
        addresses: str | Sequence[str] | None = None,
        *,
        tls: Tls | None = None,
        timeout: float = 10.0,
        retry_for: float = 30.0,
        before_enqueue: Sequence[Callable[[NewJob], NewJob]] = (),
    ) -> None:
        self._calls = Calls(addresses, tls=tls, timeout=timeout, retry_for=retry_for)
        self._before_enqueue = tuple(before_enqueue)
        self.queues = Queues(self._calls)
        self.dead_letters = DeadLetters(self._calls)

    def __enter__(self) -> Client:
        """The client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the client."""
        self.close()

    def close(self) -> None:
        """Closes the channels. Calls that wait end, later ones raise RuntimeError."""
        self._calls.close()

    def enqueue(
        self,
        queue: str,
        kind: str,
        payload: bytes = b"",
        *,
        job_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        priority: int | None = None,
        run_at: datetime | None = None,
        deadline: timedelta | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> str:
        """Stores one job and returns its id. Stored means committed.

        The arguments are the fields of NewJob, where each has its bounds. Raises JobIdConflict when `job_id` is
        taken by another body, InvalidField, TooManyQueues, Unavailable.
        """
        job = NewJob(
            queue, kind, payload, job_id, headers, priority, run_at, deadline, retry_policy
        )
        job = self._seen(job)
        message = new_job_to_proto(job, job.job_id or new_job_id())
        with producing([message]) as metadata:
            request = job_service_pb2.EnqueueRequest(job=message)
            response = self._calls.call(lambda stubs: stubs.jobs.Enqueue, request, metadata)
        return str(response.job_id)

    def _seen(self, job: NewJob) -> NewJob:
        for function in self._before_enqueue:
            job = function(job)
        return job

    def enqueue_many(
        self, jobs: Iterable[NewJob], *, progress: Callable[[int], None] | None = None
    ) -> list[str]:
        """Stores many jobs, in as many messages as it takes, and returns their ids in order.

        `progress` is called with the number of jobs settled so far. Raises EnqueueManyError when some
        are refused; all others are stored then. Any other error, also one of `jobs` itself, ends it in
        the middle: what was sent before is stored. With ids of your own (`NewJob.job_id`) it can be
        called again with the same jobs, and none is stored twice.
        """
        job_ids: list[str] = []
        errors: dict[int, AtlasQueueError] = {}
        if self._before_enqueue:
            jobs = map(self._seen, jobs)
        for batch in batches(jobs):
            found = self._enqueue_batch(batch)
            errors.update((len(job_ids) + place, error) for place, error in found.items())
            job_ids += batch.job_ids
            if progress is not None:
                progress(len(job_ids))
        if errors:
            raise EnqueueManyError(errors, job_ids)
        return job_ids

    def _enqueue_batch(self, batch: Batch) -> dict[int, AtlasQueueError]:
        try:
            try:
                response = self._send(batch, batch.request())
            except InvalidField:
                response = None
            if response is None or not batch.was_understood(response):
                # A server that is older than uniform jobs has passed them over.
                response = self._send(batch, batch.request(apart=True))
        except MessageTooLarge as error:
            if len(batch) > 1:
                raise
            # The transport refused it before the server could.
            return {0: error}
        return batch.errors(response)

    def _send(
        self, batch: Batch, request: job_service_pb2.EnqueueBatchRequest
    ) -> job_service_pb2.EnqueueBatchResponse:
        bodies = [*request.jobs, *(uniform.shared for uniform in request.uniform)]
        with producing(bodies, len(batch)) as metadata:
            response: job_service_pb2.EnqueueBatchResponse = self._calls.call(
                lambda stubs: stubs.jobs.EnqueueBatch, request, metadata
            )
            return response

    def get(self, job_id: str, *, queue: str = "") -> Job:
        """Reads a job. Raises JobNotFound, JobIdAmbiguous."""
        request = filled(job_service_pb2.GetJobRequest, queue=queue, job_id=job_id)
        response = self._calls.call(lambda stubs: stubs.jobs.GetJob, request)
        return job_from_proto(response.job)

    def list(
        self,
        queue: str,
        *,
        state: JobState = JobState.UNSPECIFIED,
        kind: str = "",
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Iterator[Job]:
        """A queue's jobs without payloads, by id (ready ones in the order of lease), page after page.

        Raises QueueNotFound.
        """
        request = job_service_pb2.ListJobsRequest(
            queue=queue,
            state=state.value,
            kind=kind,
            created_after=to_timestamp(created_after) if created_after else None,
            created_before=to_timestamp(created_before) if created_before else None,
        )
        while True:
            response = self._calls.call(lambda stubs: stubs.jobs.ListJobs, request)
            for job in response.jobs:
                yield job_from_proto(job)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def cancel(self, job_id: str, *, queue: str = "") -> JobState:
        """Cancels a job: CANCELLED, or LEASED when its worker was asked to stop.

        Raises JobNotFound, JobFinal, JobDead, JobIdAmbiguous.
        """
        request = filled(job_service_pb2.CancelJobRequest, queue=queue, job_id=job_id)
        response = self._calls.call(lambda stubs: stubs.jobs.CancelJob, request)
        return known(JobState, response.state)

    def cancel_many(
        self,
        queue: str,
        *,
        state: JobState = JobState.UNSPECIFIED,
        kind: str = "",
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> CancelledJobs:
        """Cancels the jobs of a queue that fit, or with `dry_run` only tells which those are.

        Args:
            queue: whose jobs.
            state: SCHEDULED, READY or LEASED; default: any of the three. A job that leaves it first is spared.
            kind: only jobs of this kind.
            created_after: only jobs enqueued at or after this time.
            created_before: only jobs enqueued before this time; without it jobs that are enqueued meanwhile
                may be among them.
            dry_run: cancel nothing.
            progress: is called with the number of jobs so far.

        Raises QueueNotFound, InvalidField.
        """
        request = job_service_pb2.CancelJobsRequest(
            queue=queue,
            state=state.value,
            kind=kind,
            created_after=to_timestamp(created_after) if created_after else None,
            created_before=to_timestamp(created_before) if created_before else None,
            dry_run=dry_run,
        )
        done = CancelledJobs()
        while True:
            response = self._calls.call(lambda stubs: stubs.jobs.CancelJobs, request)
            done.cancelled.extend(response.cancelled_job_ids)
            done.requested.extend(response.requested_job_ids)
            if progress is not None:
                progress(len(done.cancelled) + len(done.requested))
            if not response.next_page_token:
                return done
            request.page_token = response.next_page_token

    def watch(self, job_id: str, *, queue: str = "", timeout: float | None = None) -> Iterator[Job]:
        """The job now, then at each change, until it has settled. Goes on when a server goes away.

        Raises JobNotFound, DeadlineExceeded after `timeout` seconds, Unavailable.
        """
        for job in self._calls.watch(job_id, queue, timeout):
            yield job_from_proto(job)

    def wait(self, job_id: str, *, queue: str = "", timeout: float | None = None) -> Job:
        """Waits until the job has succeeded and returns it with its result.

        Raises JobDied or JobCancelled (both carry the job), DeadlineExceeded after `timeout` seconds.
        """
        last: Job | None = None
        for job in self.watch(job_id, queue=queue, timeout=timeout):
            last = job
        if last is None:
            raise Unavailable(f"the watch of job {job_id} ended without an answer")
        if last.state is JobState.DEAD:
            died = JobDied(f"job {job_id} is a dead letter: {last.dead_letter_reason.name}")
            died.job = last
            raise died
        if last.state is JobState.CANCELLED:
            cancelled = JobCancelled(f"job {job_id} was cancelled")
            cancelled.job = last
            raise cancelled
        return last

    def workers(self) -> Sequence[WorkerSession]:
        """The sessions of workers that live."""
        found: list[WorkerSession] = []
        request = queue_service_pb2.ListWorkersRequest()
        while True:
            response = self._calls.call(lambda stubs: stubs.queues.ListWorkers, request)
            found += [worker_from_proto(worker) for worker in response.workers]
            if not response.next_page_token:
                return found
            request.page_token = response.next_page_token

    def cluster(self) -> Cluster:
        """The servers and the leader."""
        request = queue_service_pb2.GetClusterRequest()
        return cluster_from_proto(self._calls.call(lambda stubs: stubs.queues.GetCluster, request))
