"""Producers: SDK clients with ids and default retries, which write down every answer.

What a job does is drawn from the seed; how fast they go is not: they keep a bounded number of jobs ahead of
the workers, so that there is load for as long as the faults last.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from atlasqueue import AsyncClient, NewJob
from atlasqueue.errors import AtlasQueueError, EnqueueManyError, JobFinal
from atlasqueue.ids import new_job_id
from atlasqueue.jobs import JobState
from tests.chaos.arena import Arena
from tests.chaos.names import QUEUE
from tests.history.events import Cancelled, Enqueued, Redriven, Seen, body_hash, value_hash

PRODUCERS = 3
BATCH_MAX = 20
PRIORITIES = (1, 2, 3, 3, 3, 4, 5)
REPEATED_SHARE = 0.05
CONFLICTING_SHARE = 0.02
CANCELLED_SHARE = 0.02
SEEN_MAX = 60


@dataclass
class Load:
    """What the producers have done so far."""

    arena: Arena
    total: int
    ms: tuple[int, int]
    ahead: int
    errors: list[str] = field(default_factory=list)
    job_ids: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    _left: int = 0

    def __post_init__(self) -> None:
        self._left = self.total

    async def completed(self, share: float) -> None:
        """Waits until a share of all jobs is done: the moment for a fault."""
        await self.arena.progress.completed(int(self.total * share))

    def _next_batch(self, rng: random.Random) -> list[NewJob]:
        size = min(self._left, rng.randint(1, BATCH_MAX))
        self._left -= size
        return [self._new_job(rng) for _ in range(size)]

    def _new_job(self, rng: random.Random) -> NewJob:
        first = rng.choices(("ok", "fail", "snooze", "reject"), (90, 6, 3, 1))[0]
        script = {"ms": rng.randint(*self.ms), "first": first, "n": rng.random()}
        job = NewJob(
            QUEUE,
            "work",
            json.dumps(script).encode(),
            job_id=new_job_id(),
            priority=rng.choice(PRIORITIES),
        )
        if first == "reject":
            self.rejected.append(job.job_id or "")
        return job

    async def produce(self, client: AsyncClient, rng: random.Random) -> None:
        """One producer: until nothing is left."""
        while self._left:
            await self._wait_for_room()
            batch = self._next_batch(rng)
            if not batch or not await self._enqueue(client, batch):
                continue
            self.job_ids += [job.job_id or "" for job in batch]
            await self._vary(client, rng, batch)

    async def _wait_for_room(self) -> None:
        while len(self.job_ids) - len(self.arena.progress.accepted) > self.ahead:
            await asyncio.sleep(0.02)
            self.arena.progress.update()

    async def _enqueue(self, client: AsyncClient, batch: list[NewJob]) -> bool:
        answers = ["ok"] * len(batch)
        try:
            if len(batch) == 1:
                job = batch[0]
                await client.enqueue(
                    QUEUE, job.kind, job.payload, job_id=job.job_id, priority=job.priority
                )
            else:
                await client.enqueue_many(batch)
        except EnqueueManyError as error:
            for position, refusal in error.errors.items():
                answers[position] = refusal.reason or "UNKNOWN"
        except AtlasQueueError as error:
            if len(batch) > 1 or error.reason != "JOB_ID_CONFLICT":
                self.errors.append(f"enqueue: {error!r}")
                return False
            answers = [error.reason]
        for job, answer in zip(batch, answers, strict=True):
            record_enqueued(self.arena, job, answer)
        return True

    async def _vary(self, client: AsyncClient, rng: random.Random, batch: list[NewJob]) -> None:
        """Now and then the same again, another body under the same id, a cancel."""
        job = rng.choice(batch)
        chance = rng.random()
        if chance < REPEATED_SHARE * len(batch):
            await self._enqueue(client, [job])
        chance = rng.random()
        if chance < CONFLICTING_SHARE * len(batch):
            other = NewJob(QUEUE, "work", b"{}", job_id=job.job_id, priority=job.priority)
            await self._enqueue(client, [other])
        chance = rng.random()
        if chance < CANCELLED_SHARE * len(batch):
            await self._cancel(client, job)

    async def _cancel(self, client: AsyncClient, job: NewJob) -> None:
        assert job.job_id
        try:
            state = await client.cancel(job.job_id, queue=QUEUE)
            answer = "cancelled" if state is JobState.CANCELLED else "requested"
        except JobFinal:
            # It may be this very call's first try that cancelled it.
            answer = "JOB_FINAL"
        except AtlasQueueError as error:
            if error.reason is None:
                self.errors.append(f"cancel: {error!r}")
                return
            answer = error.reason
        self.arena.recorder.record(
            Cancelled, who="producer", queue=QUEUE, job_id=job.job_id, answer=answer
        )

    async def finish(self, client: AsyncClient, rng: random.Random) -> None:
        """Redrives what was rejected, waits for the end, and reads some jobs as a producer would."""
        await self.arena.settle()
        if self.rejected:
            for job_id in self.rejected:
                self.arena.recorder.record(Redriven, queue=QUEUE, job_id=job_id)
            await client.dead_letters.redrive(QUEUE, job_ids=self.rejected)
            await self.arena.settle()
        for job_id in rng.sample(self.job_ids, min(SEEN_MAX, len(self.job_ids))):
            job = await client.get(job_id, queue=QUEUE)
            self.arena.recorder.record(
                Seen,
                who="producer",
                queue=QUEUE,
                job_id=job_id,
                state=job.state.name.lower(),
                result=value_hash(job.result) if job.state is JobState.SUCCEEDED else "",
            )


GATE = "gate"


async def enqueue_gated(arena: Arena, count: int) -> set[str]:
    """Urgent jobs that run until the gate opens; their ids."""
    payload = json.dumps({"gate": GATE}).encode()
    jobs = [NewJob(QUEUE, "hold", payload, job_id=new_job_id(), priority=1) for _ in range(count)]
    async with arena.client() as client:
        await client.enqueue_many(jobs)
    for job in jobs:
        record_enqueued(arena, job)
    return {job.job_id or "" for job in jobs}


def open_gate(arena: Arena) -> None:
    """Lets them finish."""
    (arena.history / GATE).touch()


def record_enqueued(arena: Arena, job: NewJob, answer: str = "ok") -> None:
    """An enqueue was answered."""
    arena.recorder.record(
        Enqueued,
        who="producer",
        queue=job.queue,
        job_id=job.job_id,
        body=body_hash(job.kind, job.payload, job.priority or 3),
        answer=answer,
    )


@asynccontextmanager
async def load(
    arena: Arena, total: int, *, ms: tuple[int, int] = (5, 40), ahead: int | None = None
) -> AsyncIterator[Load]:
    """Producers at work; at the end of the block every job has settled."""
    made = Load(arena, total, ms, ahead or max(50, total // 3))
    async with arena.client() as client, asyncio.TaskGroup() as group:
        rngs = [random.Random(arena.random.random()) for _ in range(PRODUCERS + 1)]
        producers = [group.create_task(made.produce(client, rng)) for rng in rngs[1:]]
        yield made
        await asyncio.gather(*producers)
        await made.finish(client, rngs[0])
