"""Reading jobs: one of them whole, or a queue's, page by page."""

from __future__ import annotations

from collections.abc import Sequence

from atlasqueue_server.domain.pages import Order, PageToken
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import JobIdAmbiguous, JobNotFound
from atlasqueue_server.model.jobs import Job, JobFilter
from atlasqueue_server.model.states import State
from atlasqueue_server.store import jobs as store
from atlasqueue_server.store.database import Database

# A page whose filters fit few jobs looks at no more than so many; the next page goes on from there.
EXAMINED_MAX = 5000
# What a job takes in a message beside its texts.
BRIEF_JOB_BYTES = 700
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
        found = await store.get_jobs(self._database, queue, [job_id], whole=True)
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
        ids, following = await self.ids(queue, jobs, page_size, token)
        job_ids = [job_id for job_id, _ in ids]
        found = await store.get_jobs(self._database, queue, job_ids, whole=False)
        read = {job.job_id: job for job in found}
        # A job may have moved since its id was read: what is shown is where it stands now.
        shown = [(read[job_id], after) for job_id, after in ids if job_id in read]
        return cut_page(shown, following)

    async def ids(
        self, queue: str, jobs: JobFilter, page_size: int, token: PageToken
    ) -> tuple[list[tuple[str, PageToken]], PageToken | None]:
        """A page's ids, each with the token of what follows it, and the token of what follows all."""
        pick = self._ready_ids if order_of(jobs) is Order.DISPATCH else self._ids_by_id
        return await pick(queue, jobs, page_size, token)

    async def _ids_by_id(
        self, queue: str, jobs: JobFilter, page_size: int, token: PageToken
    ) -> tuple[list[tuple[str, PageToken]], PageToken | None]:
        """The same, by id."""
        after = token.job_id or NIL
        rows = await store.list_job_ids(self._database, queue, jobs, after, EXAMINED_MAX)
        ids = [(job_id, PageToken(job_id=job_id)) for job_id, fits in rows if fits][:page_size]
        if len(ids) == page_size:
            return ids, ids[-1][1]
        return ids, PageToken(job_id=rows[-1][0]) if len(rows) == EXAMINED_MAX else None

    async def _ready_ids(
        self, queue: str, jobs: JobFilter, page_size: int, token: PageToken
    ) -> tuple[list[tuple[str, PageToken]], PageToken | None]:
        """The same, in dispatch order."""
        after = (token.priority, token.seq)
        rows = await store.list_ready_job_ids(self._database, queue, jobs, after, EXAMINED_MAX)
        ids = [(row[0], PageToken(priority=row[2], seq=row[3])) for row in rows if row[1]]
        ids = ids[:page_size]
        if len(ids) == page_size:
            return ids, ids[-1][1]
        last = PageToken(priority=rows[-1][2], seq=rows[-1][3]) if rows else None
        return ids, last if len(rows) == EXAMINED_MAX else None


def order_of(jobs: JobFilter) -> Order:
    """What a list of these jobs goes by."""
    return Order.DISPATCH if jobs.state is State.READY else Order.JOB_ID


def cut_page(
    jobs: Sequence[tuple[Job, PageToken]], following: PageToken | None
) -> tuple[list[Job], PageToken | None]:
    """As many of the jobs as one message can carry, and the token of what follows them.

    Args:
        jobs: each with the token of what follows it.
        following: the token of what follows all of them.
    """
    size = 0
    for at, (job, _) in enumerate(jobs):
        size += _brief_bytes(job)
        if at and size > limits.MESSAGE_CUT_BYTES:
            return [shown for shown, _ in jobs[:at]], jobs[at - 1][1]
    return [job for job, _ in jobs], following


def _brief_bytes(job: Job) -> int:
    texts = [job.headers_json, job.note]
    for failure in job.failures:
        texts += [failure.error.type, failure.error.message, failure.error.stack]
    return BRIEF_JOB_BYTES + sum(_bytes(text) for text in texts if text)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def not_found(job_id: str) -> JobNotFound:
    """The error for a job that does not exist."""
    return JobNotFound(f"no job {job_id}: it was never enqueued, or it was pruned or purged")
