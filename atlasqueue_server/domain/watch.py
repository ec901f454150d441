"""Following jobs: one poll for all watchers of a process, hastened by what happens in it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from atlasqueue_server.domain import supervise
from atlasqueue_server.domain.jobs import Jobs, not_found
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.errors import ShuttingDown, Unavailable
from atlasqueue_server.model.jobs import Job
from atlasqueue_server.model.states import SETTLED
from atlasqueue_server.store import jobs as store
from atlasqueue_server.store.database import Database

POLL_S = 0.5
# Several moves of one job in quick succession are read once.
GATHER_S = 0.01
CHUNK = 200


@dataclass(eq=False, slots=True)
class _Watch:
    queue: str
    job_id: str
    seen: Job | None = None
    news: asyncio.Queue[Job | None] = field(default_factory=asyncio.Queue)


def _place(job: Job) -> tuple[object, ...]:
    return (
        job.state,
        job.fence,
        job.attempt,
        job.crashes,
        job.cancel_requested,
        job.percent,
        job.note,
    )


class Watcher:
    """Streams the changes of jobs."""

    def __init__(self, database: Database, jobs: Jobs, signals: Signals) -> None:
        self._database = database
        self._jobs = jobs
        self._signals = signals
        self._watches: dict[str, set[_Watch]] = defaultdict(set)
        self._moved = asyncio.Event()
        self._closed = False
        self._poller: asyncio.Task[None] | None = None

    async def watch(self, queue: str, job_id: str) -> AsyncIterator[Job]:
        """The job now, then at each change that is seen, until it has settled.

        Raises JobNotFound, JobIdAmbiguous, ShuttingDown.
        """
        queue = await self._jobs.locate(queue, job_id)
        watch = _Watch(queue, job_id)
        self._add(watch)
        try:
            job: Job | None = await self._jobs.get(queue, job_id)
            while job is not None:
                # The poller may have read the job as well; a change is told once.
                if watch.seen is None or _place(job) != _place(watch.seen):
                    watch.seen = job
                    yield replace(job, payload=b"")
                if job.state in SETTLED:
                    return
                job = await watch.news.get()
                if job is not None:
                    # Whole, with its failures and result; the poll reads neither.
                    job = await self._jobs.get(queue, job_id)
            raise ShuttingDown() if self._closed else not_found(job_id)
        finally:
            self._remove(watch)

    def _add(self, watch: _Watch) -> None:
        if self._closed:
            raise ShuttingDown()
        if not self._watches:
            self._signals.moved.append(self._job_moved)
            self._poller = supervise.start("watcher", self._poll)
        self._watches[watch.job_id].add(watch)

    def _remove(self, watch: _Watch) -> None:
        of_job = self._watches.get(watch.job_id)
        if of_job is None:
            return
        of_job.discard(watch)
        if not of_job:
            del self._watches[watch.job_id]
        if not self._watches and self._poller:
            self._signals.moved.remove(self._job_moved)
            self._poller.cancel()
            self._poller = None

    def _job_moved(self, job_id: str) -> None:
        if job_id in self._watches:
            self._moved.set()

    async def _poll(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._moved.wait()
                await asyncio.sleep(GATHER_S)
            self._moved.clear()
            with contextlib.suppress(Unavailable):
                await self._read_all()

    async def _read_all(self) -> None:
        by_queue: dict[str, dict[str, None]] = defaultdict(dict)
        for watches in self._watches.values():
            for watch in watches:
                by_queue[watch.queue][watch.job_id] = None
        for queue, ids in by_queue.items():
            job_ids = list(ids)
            for start in range(0, len(job_ids), CHUNK):
                await self._read(queue, job_ids[start : start + CHUNK])

    async def _read(self, queue: str, job_ids: Sequence[str]) -> None:
        jobs = await store.get_jobs(self._database, queue, job_ids, whole=False)
        found = {job.job_id: job for job in jobs}
        for job_id in job_ids:
            for watch in self._watches.get(job_id, ()):
                if watch.queue == queue:
                    self._tell(watch, found.get(job_id))

    def _tell(self, watch: _Watch, job: Job | None) -> None:
        if job is None or watch.seen is None or _place(job) != _place(watch.seen):
            watch.news.put_nowait(job)

    def close(self) -> None:
        """Ends every watch."""
        self._closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.news.put_nowait(None)
