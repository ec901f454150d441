"""Reading jobs: one of them whole, or a queue's, page by page."""

from __future__ import annotations

from dataclasses import replace

from atlasqueue_server.domain.pages import PageToken
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.model.errors import JobIdAmbiguous, JobNotFound
from atlasqueue_server.model.jobs import Job, JobFilter
from atlasqueue_server.model.states import State
from atlasqueue_server.store import jobs as store
from atlasqueue_server.store.database import Database

# A page whose filters fit few jobs looks at no more than so many; the next page goes on from there.
EXAMINED_MAX = 5000
NIL = "00000000-0000-0000-0000-000000000000"


class Jobs:
    """Jobs as stored."""

    def __init__(self, database: Database, queues: Queues) -> None:
        self._database = database
        self._queues = queues

    async def locate(self, queue: str, job_id: str) -> str:
        """The queue of a job; `queue` itself unless empty. Raises JobNotFound, JobIdAmbiguous."""
        if queue:
            return queue
        found = await store.find_queues_of_job(self._database, job_id)
        if not found:
            raise not_found(job_id)
        if len(found) > 1:
            raise JobIdAmbiguous(
                f"job {job_id} is in several queues ({', '.join(found)}): name one"
            )
        return found[0]

    async def get(self, queue: str, job_id: str) -> Job:
        """A job, whole. Raises JobNotFound, JobIdAmbiguous."""
        queue = await self.locate(queue, job_id)
        found = await store.get_jobs(self._database, queue, [job_id])
        if not found:
            raise not_found(job_id)
        job = found[0]
        if job.deliveries:
            job.failures = await store.list_failures(self._database, queue, job_id)
        return job

    async def page(
        self, queue: str, jobs: JobFilter, page_size: int, token: PageToken
    ) -> tuple[list[Job], PageToken | None]:
        """A page of a queue's jobs, without payloads, and the token of the next. Raises QueueNotFound."""
        await self._queues.get(queue)
        if jobs.state is State.READY:
            job_ids, following = await self._ready_page(queue, jobs, page_size, token)
        else:
            job_ids, following = await self._page(queue, jobs, page_size, token)
        read = {job.job_id: job for job in await store.get_jobs(self._database, queue, job_ids)}
        # A job may have moved since its id was read: what is shown is where it stands now.
        return [_brief(read[i]) for i in job_ids if i in read], following

    async def _page(
        self, queue: str, jobs: JobFilter, page_size: int, token: PageToken
    ) -> tuple[list[str], PageToken | None]:
        after = token.job_id or NIL
        rows = await store.list_job_ids(self._database, queue, jobs, after, EXAMINED_MAX)
        fitting = [job_id for job_id, fits in rows if fits][:page_size]
        if len(fitting) == page_size:
            return fitting, PageToken(job_id=fitting[-1])
        if len(rows) == EXAMINED_MAX:
            return fitting, PageToken(job_id=rows[-1][0])
        return fitting, None

    async def _ready_page(
        self, queue: str, jobs: JobFilter, page_size: int, token: PageToken
    ) -> tuple[list[str], PageToken | None]:
        after = (token.priority, token.seq)
        rows = await store.list_ready_job_ids(self._database, queue, jobs, after, EXAMINED_MAX)
        fitting = [row for row in rows if row[1]][:page_size]
        ids = [row[0] for row in fitting]
        if len(fitting) == page_size:
            return ids, PageToken(priority=fitting[-1][2], seq=fitting[-1][3])
        if len(rows) == EXAMINED_MAX:
            return ids, PageToken(priority=rows[-1][2], seq=rows[-1][3])
        return ids, None


def _brief(job: Job) -> Job:
    return replace(job, payload=b"", result=None, checkpoint=None, failures=[])


def not_found(job_id: str) -> JobNotFound:
    """The error for a job that does not exist."""
    return JobNotFound(f"no job {job_id}: it was never enqueued, or it was pruned or purged")
