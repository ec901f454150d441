"""cancel by filter: the jobs of a queue that fit are found page by page and cancelled by the hundred.

A job moves while it is looked for, so the filter alone proves nothing: the statement that cancels checks
the state again, and what it skipped because another verb held it is looked for once more. What is held for
longer is left to the caller's next call, which begins with the same page.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from atlasqueue_server.domain.jobs import Jobs
from atlasqueue_server.domain.pages import PageToken
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model.errors import Overloaded
from atlasqueue_server.model.jobs import JobFilter, LeaseName
from atlasqueue_server.model.states import OPEN, State
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.jobs import cancel_jobs_if_open, find_open_jobs

CHUNK = 1000
CHUNKS_MAX = 10
# Each further try means that another verb holds or has moved the job.
TRIES_MAX = 10


@dataclass(slots=True)
class CancelledJobs:
    """The ids that were cancelled and those asked for; where to go on, if there is more."""

    cancelled: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    following: PageToken | None = None


class ManyCanceller:
    """Cancels jobs by filter."""

    def __init__(
        self,
        database: Database,
        queues: Queues,
        jobs: Jobs,
        signals: Signals,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal or Journal()
        self._database = database
        self._queues = queues
        self._jobs = jobs
        self._signals = signals

    async def cancel(
        self, queue: str, wanted: JobFilter, token: PageToken, *, dry_run: bool
    ) -> CancelledJobs:
        """One call's worth: cancelled, or with `dry_run` what would be.

        Raises QueueNotFound; Overloaded when others hold the jobs and nothing was done.
        """
        await self._queues.get(queue)
        states = OPEN if wanted.state is None else {wanted.state}
        done = CancelledJobs(following=token)
        for _ in range(CHUNKS_MAX):
            ids, following = await self._jobs.ids(queue, wanted, CHUNK, token)
            if await self._cancel(queue, [job_id for job_id, _ in ids], states, done, dry_run):
                if not (done.cancelled or done.requested):
                    raise Overloaded("others hold these jobs; repeat with backoff")
                break
            done.following = following
            if following is None:
                break
            token = following
        return done

    async def _cancel(
        self,
        queue: str,
        job_ids: Collection[str],
        states: Collection[State],
        done: CancelledJobs,
        dry_run: bool,
    ) -> Collection[str]:
        """Those that were not reached because another verb held them."""
        left = set(job_ids)
        for _ in range(TRIES_MAX):
            found = await find_open_jobs(self._database, queue, sorted(left), states)
            if dry_run:
                done.cancelled += [job_id for job_id, is_leased in found if not is_leased]
                done.requested += [job_id for job_id, is_leased in found if is_leased]
                return ()
            # What is final or dead by now, or has left the state that was asked for, is passed over.
            left = {job_id for job_id, _ in found}
            if not left:
                return ()
            left -= await self._cancel_found(queue, left, states, done)
        return left

    async def _cancel_found(
        self, queue: str, job_ids: set[str], states: Collection[State], done: CancelledJobs
    ) -> set[str]:
        reached: set[str] = set()
        moved = await cancel_jobs_if_open(self._database, queue, sorted(job_ids), states)
        for job_id, session_id, fence in moved:
            reached.add(job_id)
            if session_id is None or fence is None:
                self._journal.cancelled(queue, job_id)
                done.cancelled.append(job_id)
            else:
                self._journal.cancel_requested(queue, job_id, session_id, fence)
                done.requested.append(job_id)
                self._signals.cancel_requested(session_id, LeaseName(queue, job_id, fence))
            self._signals.job_moved(job_id)
        return reached
