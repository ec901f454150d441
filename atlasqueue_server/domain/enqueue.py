"""enqueue: ∅ → ready or scheduled. Calls that wait together share a commit; an id is stored once.

A few jobs for which a worker of this process waits are leased in the same transaction: a commit less
before their handlers start, and no NOTIFY.

Many uniform jobs are stored by a statement that takes for granted that all ids are new, which it finds out for
nothing. When one is not, nothing is stored, and they go the way of all others.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from atlasqueue_server.domain.batching import BESIDE_MIN, Batcher
from atlasqueue_server.domain.lease import Lane
from atlasqueue_server.domain.queues import Queues, too_many_queues
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model.columns import UniformJobs
from atlasqueue_server.model.errors import AtlasQueueError, JobIdConflict, Overloaded
from atlasqueue_server.model.jobs import Enqueued, NewJob
from atlasqueue_server.store import enqueue as store
from atlasqueue_server.store.database import Database

# A round settles every id but those whose first writer rolled back meanwhile.
ROUNDS_MAX = 5
# So many jobs at most are leased in the transaction of their enqueue: their producers wait for the lease too.
LEASED_AT_ONCE_MAX = 8
# So many uniform jobs are worth a statement of their own; fewer had better share that of others.
UNIFORM_MIN = BESIDE_MIN
# Who repeats a batch repeats others: for so long after an id that existed, nobody takes it for granted that all are new.
DOUBT_S = 10.0


class Enqueuer:
    """Stores jobs, once each, and answers after the commit."""

    def __init__(
        self,
        database: Database,
        queues: Queues,
        signals: Signals,
        free_lane: Callable[[str], Lane | None] = lambda _: None,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal or Journal()
        self._database = database
        self._queues = queues
        self._signals = signals
        self._free_lane = free_lane
        self._doubt_until = -math.inf
        self._batcher: Batcher[NewJob, Enqueued] = Batcher(
            self._flush,
            size=lambda job: len(job.payload) + 100,
            observe=self._journal.committed_enqueues,
            verb="enqueue",
        )

    async def enqueue(self, jobs: Sequence[NewJob]) -> list[AtlasQueueError | None]:
        """For each job None when it is stored (now or before), else why not."""
        self._journal.called_enqueue(len(jobs))
        refused = await self._queues.ensure({job.queue for job in jobs})
        room = [job for job in jobs if job.queue not in refused] if refused else jobs
        answers = iter(await self._batcher.submit(room))
        return [
            too_many_queues(job.queue) if job.queue in refused else _error(job, next(answers))
            for job in jobs
        ]

    async def enqueue_uniform(self, jobs: UniformJobs) -> dict[int, AtlasQueueError]:
        """Stores many of them; by position: why one is not stored. Raises TooManyQueues: none is."""
        self._journal.called_enqueue(len(jobs))
        queue = jobs.shared.queue
        if await self._queues.ensure({queue}):
            raise too_many_queues(queue)
        stored = await self._batcher.submit_columns(jobs)
        if stored.count(Enqueued.STORED) == len(stored):
            return {}
        found = ((at, _error(jobs[at], answer)) for at, answer in enumerate(stored))
        return {at: error for at, error in found if error is not None}

    async def close(self) -> None:
        """Waits for the calls that were let in."""
        await self._batcher.close()

    async def _flush(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        if isinstance(jobs, UniformJobs):
            if await self._store_all_new(jobs):
                return [Enqueued.STORED] * len(jobs)
            jobs = list(jobs)
        answers: dict[int, Enqueued] = {}
        todo: list[int] = list(range(len(jobs)))
        for _ in range(ROUNDS_MAX):
            answers |= await self._store(jobs, todo)
            todo = [i for i in todo if i not in answers]
            if not todo:
                return [answers[i] for i in range(len(jobs))]
        raise Overloaded("too many calls enqueue the same ids at once; repeat with backoff")

    async def _store_all_new(self, jobs: UniformJobs) -> bool:
        if jobs.shared.run_at is not None or time.monotonic() < self._doubt_until:
            return False
        if not await store.enqueue_uniform_jobs_if_all_new(self._database, jobs):
            self._doubt_until = time.monotonic() + DOUBT_S
            return False
        self._journal.enqueued(jobs.shared.queue, jobs, len(jobs), len(jobs))
        self._signals.jobs_ready([jobs.shared.queue])
        return True

    async def _store(self, jobs: Sequence[NewJob], todo: Sequence[int]) -> dict[int, Enqueued]:
        by_queue: dict[str, list[int]] = defaultdict(list)
        for i in todo:
            by_queue[jobs[i].queue].append(i)
        # An id that is named twice is stored by its first; the others are compared with what is stored.
        firsts = {
            queue: list({jobs[i].job_id: jobs[i] for i in reversed(indices)}.values())
            for queue, indices in by_queue.items()
        }
        stored = await self._store_new(firsts, {queue: len(at) for queue, at in by_queue.items()})
        answers: dict[int, Enqueued] = {}
        for queue, indices in by_queue.items():
            if stored[queue] == len(indices):
                answers |= dict.fromkeys(indices, Enqueued.STORED)
            else:
                bodies = [jobs[i] for i in indices]
                found = await store.classify_enqueued_jobs(self._database, queue, bodies)
                answers.update((indices[at], answer) for at, answer in found.items())
        return answers

    async def _store_new(
        self, firsts: Mapping[str, Sequence[NewJob]], asked: Mapping[str, int]
    ) -> Mapping[str, int]:
        """Stores jobs, with distinct ids in each queue; by queue: how many were new of those asked for."""
        if len(firsts) == 1:
            ((queue, jobs),) = firsts.items()
            lane = self._free_lane(queue) if len(jobs) <= LEASED_AT_ONCE_MAX else None
            if lane is not None:
                return {queue: await self._store_and_lease(lane, jobs, asked[queue])}
        stored = await store.enqueue_jobs_if_new(self._database, firsts)
        for queue, new in stored.items():
            self._journal.enqueued(queue, firsts[queue], new, asked[queue])
        self._signals.jobs_ready(queue for queue, new in stored.items() if new)
        return stored

    async def _store_and_lease(self, lane: Lane, jobs: Sequence[NewJob], asked: int) -> int:
        with lane.flight() as flight:
            new, flight.rows = await store.enqueue_and_lease_jobs(
                self._database, lane.queue, jobs, flight.orders
            )
            self._journal.enqueued(lane.queue, jobs, new, asked)
        if lane.backlog or len(flight.rows) < new:
            self._signals.jobs_ready([lane.queue])
        return new


def _error(job: NewJob, answer: Enqueued) -> AtlasQueueError | None:
    if answer is Enqueued.STORED:
        return None
    return JobIdConflict(
        f"job {job.job_id} exists in queue {job.queue} with another body: make a new id"
    )
