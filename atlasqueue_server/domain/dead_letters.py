"""Dead letters: list, redrive (dead → ready), purge (dead → gone)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from atlasqueue_server.domain.jobs import NIL, cut_page
from atlasqueue_server.domain.pages import PageToken
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model.jobs import DeadLetterFilter, Job
from atlasqueue_server.store import dead_letters as store
from atlasqueue_server.store import jobs as jobs_store
from atlasqueue_server.store.database import Database

CHUNK = 1000

Act = Callable[[Database, str, Sequence[str]], Awaitable[int]]


class DeadLetters:
    """The dead letters of a queue."""

    def __init__(
        self, database: Database, queues: Queues, signals: Signals, journal: Journal | None = None
    ) -> None:
        self._journal = journal or Journal()
        self._database = database
        self._queues = queues
        self._signals = signals

    async def page(
        self, queue: str, dead: DeadLetterFilter, page_size: int, token: PageToken
    ) -> tuple[list[Job], PageToken | None]:
        """A page by job id, each with its last failure, and the token of the next. Raises QueueNotFound."""
        await self._queues.get(queue)
        job_ids = await store.find_dead_letters(
            self._database, queue, dead, token.job_id or NIL, page_size
        )
        found = await jobs_store.get_jobs(self._database, queue, job_ids, whole=False)
        read = {job.job_id: job for job in found}
        failures = await jobs_store.list_last_failures(self._database, queue, job_ids)
        for job_id, failure in failures.items():
            if job_id in read:
                read[job_id].failures = [failure]
        jobs = [(read[i], PageToken(job_id=i)) for i in job_ids if i in read]
        full = len(job_ids) == page_size
        return cut_page(jobs, PageToken(job_id=job_ids[-1]) if full else None)

    async def redrive(
        self,
        queue: str,
        chosen: Sequence[str] | DeadLetterFilter,
        most: int,
        *,
        dry_run: bool,
    ) -> tuple[int, bool]:
        """(moved, more): dead letters back to ready, by id or filter. Raises QueueNotFound."""
        act = store.count_dead_letters if dry_run else store.redrive_dead_letters_if_dead
        answer = await self._each_chunk(queue, chosen, most, act)
        if answer[0] and not dry_run:
            self._journal.redriven(queue, answer[0])
            self._signals.jobs_ready([queue])
        return answer

    async def purge(
        self,
        queue: str,
        chosen: Sequence[str] | DeadLetterFilter,
        most: int,
        *,
        dry_run: bool,
    ) -> tuple[int, bool]:
        """(deleted, more): dead letters gone for good, by id or filter. Raises QueueNotFound."""
        act = store.count_dead_letters if dry_run else store.purge_dead_letters_if_dead
        answer = await self._each_chunk(queue, chosen, most, act)
        if answer[0] and not dry_run:
            self._journal.purged(queue, answer[0])
        return answer

    async def _each_chunk(
        self, queue: str, chosen: Sequence[str] | DeadLetterFilter, most: int, act: Act
    ) -> tuple[int, bool]:
        await self._queues.get(queue)
        if isinstance(chosen, DeadLetterFilter):
            # One more than is wanted tells whether there is more.
            found = await store.find_dead_letters(self._database, queue, chosen, NIL, most + 1)
        else:
            found = list(dict.fromkeys(chosen))
        job_ids, more = found[:most], len(found) > most
        done = 0
        for start in range(0, len(job_ids), CHUNK):
            done += await act(self._database, queue, job_ids[start : start + CHUNK])
        for job_id in job_ids:
            self._signals.job_moved(job_id)
        return done, more
