"""enqueue: ∅ → ready or scheduled. Calls that wait together share a commit; an id is stored once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from atlasqueue_server.domain.batching import Batcher
from atlasqueue_server.domain.queues import Queues, too_many_queues
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.errors import AtlasQueueError, JobIdConflict, Overloaded
from atlasqueue_server.model.jobs import Enqueued, NewJob
from atlasqueue_server.store import enqueue as store
from atlasqueue_server.store.database import Database

# A round settles every id but those whose first writer rolled back meanwhile.
ROUNDS_MAX = 5


class Enqueuer:
    """Stores jobs, once each, and answers after the commit."""

    def __init__(
        self,
        database: Database,
        queues: Queues,
        signals: Signals,
        observe: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._database = database
        self._queues = queues
        self._signals = signals
        self._batcher: Batcher[NewJob, Enqueued] = Batcher(
            self._flush, size=lambda job: len(job.payload) + 100, observe=observe
        )

    async def enqueue(self, jobs: Sequence[NewJob]) -> list[AtlasQueueError | None]:
        """For each job None when it is stored (now or before), else why not."""
        refused = await self._queues.ensure({job.queue for job in jobs})
        room = [job for job in jobs if job.queue not in refused]
        answers = iter(await self._batcher.submit(room))
        return [
            too_many_queues(job.queue) if job.queue in refused else _error(job, next(answers))
            for job in jobs
        ]

    async def close(self) -> None:
        """Waits for the calls that were let in."""
        await self._batcher.close()

    async def _flush(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        answers: dict[int, Enqueued] = {}
        todo = list(range(len(jobs)))
        for _ in range(ROUNDS_MAX):
            # The same id twice is settled one after the other: the second finds the first stored.
            chosen, todo = _distinct(jobs, todo)
            settled = await self._store([jobs[i] for i in chosen])
            for i in chosen:
                found = settled.get((jobs[i].queue, jobs[i].job_id))
                if found is None:
                    todo.append(i)
                else:
                    answers[i] = found
            if not todo:
                return [answers[i] for i in range(len(jobs))]
        raise Overloaded("too many calls enqueue the same ids at once; repeat with backoff")

    async def _store(self, jobs: Sequence[NewJob]) -> dict[tuple[str, str], Enqueued]:
        by_queue: dict[str, list[NewJob]] = defaultdict(list)
        for job in jobs:
            by_queue[job.queue].append(job)
        stored = await store.enqueue_jobs_if_new(self._database, by_queue)
        self._signals.jobs_ready(queue for queue, count in stored.items() if count)
        settled: dict[tuple[str, str], Enqueued] = {}
        for queue, of_queue in by_queue.items():
            if stored[queue] == len(of_queue):
                settled.update(((queue, job.job_id), Enqueued.STORED) for job in of_queue)
            else:
                found = await store.classify_enqueued_jobs(self._database, queue, of_queue)
                settled.update(((queue, job_id), answer) for job_id, answer in found.items())
        return settled


def _distinct(jobs: Sequence[NewJob], indices: Sequence[int]) -> tuple[list[int], list[int]]:
    chosen: dict[tuple[str, str], int] = {}
    rest: list[int] = []
    for i in indices:
        key = (jobs[i].queue, jobs[i].job_id)
        if chosen.setdefault(key, i) != i:
            rest.append(i)
    return list(chosen.values()), rest


def _error(job: NewJob, answer: Enqueued) -> AtlasQueueError | None:
    if answer is Enqueued.STORED:
        return None
    return JobIdConflict(
        f"job {job.job_id} exists in queue {job.queue} with another body: make a new id"
    )
