"""Handlers that harm their worker."""

from __future__ import annotations

import asyncio
import json

from atlasqueue import NewJob
from atlasqueue.ids import new_job_id
from atlasqueue.jobs import DeadLetterReason
from tests.chaos.arena import Arena
from tests.chaos.load import load, record_enqueued
from tests.chaos.names import QUEUE
from tests.chaos.scenarios import scenario

WATCH_S = 0.1


async def _enqueue(arena: Arena, kind: str, payload: object, count: int = 1) -> list[str]:
    jobs = [
        NewJob(QUEUE, kind, json.dumps(payload).encode(), job_id=new_job_id(), priority=1)
        for _ in range(count)
    ]
    async with arena.client() as client:
        await client.enqueue_many(jobs)
    for job in jobs:
        record_enqueued(arena, job)
    return [job.job_id or "" for job in jobs]


@scenario("poison_job", "a job that aborts its worker every time", workers=3)
async def poison_job(arena: Arena) -> None:
    """It becomes a dead letter CRASH_LOOP after 3 crashes, while all other jobs flow."""
    async with load(arena, arena.of(250, 3000)) as jobs:
        await jobs.completed(0.1)
        (poison,) = await _enqueue(arena, "abort", {})
        nurse = asyncio.create_task(_replace_the_dead(arena))
        async with arena.client() as client:
            while True:
                job = await client.get(poison, queue=QUEUE)
                if job.settled:
                    break
                await asyncio.sleep(WATCH_S)
        nurse.cancel()
        await asyncio.gather(nurse, return_exceptions=True)
        assert job.dead_letter_reason is DeadLetterReason.CRASH_LOOP, job
        arena.notes["poison job"] = f"dead letter CRASH_LOOP after {job.deliveries} deliveries"
        assert job.deliveries == 3, job
        await _replace(arena)
        arena.recovers()
    assert not jobs.errors, jobs.errors


async def _replace_the_dead(arena: Arena) -> None:
    while True:
        await _replace(arena)
        await asyncio.sleep(WATCH_S)


async def _replace(arena: Arena) -> None:
    for role, worker in list(arena.workers.items()):
        if worker.poll() is not None:
            worker.wanted_gone = True
            arena.strike(f"{worker.who} aborted")
            arena.start_worker(role)


@scenario("block_loop", "a handler that blocks the event loop for two visibility timeouts")
async def block_loop(arena: Arena) -> None:
    """Heartbeats come from another thread: the worker keeps all of its leases (I9)."""
    async with load(arena, arena.of(200, 2000)) as jobs:
        await jobs.completed(0.2)
        seconds = 2.5 * arena.settings.visibility_timeout_s
        blocked = await _enqueue(arena, "block", {"seconds": seconds}, count=2)
        arena.strike(f"event loops blocked for {seconds:g} s")
        await arena.progress.until(
            lambda: set(blocked) <= arena.progress.accepted, "the blocking jobs complete"
        )
        arena.recovers()
        again = arena.progress.redelivered(blocked)
        assert not again, f"delivered again while their worker lived: {again}"
    assert not jobs.errors, jobs.errors
