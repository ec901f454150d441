"""Everybody comes back at once."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from atlasqueue import NewJob
from atlasqueue.ids import new_job_id
from tests.chaos.actors import Actor
from tests.chaos.arena import Arena
from tests.chaos.load import record_enqueued
from tests.chaos.names import QUEUE
from tests.chaos.scenarios import scenario

OPEN_S = 180.0
SLOTS = 50


@scenario(
    "herd",
    "1000 sessions reconnect at once while 50 000 leases expire",
    workers=0,
    visibility_timeout_s=15.0,
    expiry_extra_s=8.0,
    pool_max=10,
    in_short_form=False,
)
async def herd(arena: Arena) -> None:
    """The holders of the leases are killed; when those expire, so is the server of the others."""
    sessions = arena.of(50, 1000)
    await _enqueue(arena, sessions * SLOTS)
    holders = await _start_herd(arena, "holders", sessions, "--hold")
    await arena.progress.until(
        lambda: arena.progress.delivered >= sessions * SLOTS, "all jobs are held", wait_s=OPEN_S
    )
    arena.strike(f"kill -9 of {sessions} sessions with {sessions * SLOTS} leases")
    holders.kill()
    killed_at = time.monotonic()
    await _start_herd(arena, "others", sessions)
    await _until_expired(arena, 1)
    victim = arena.servers["server_1"]
    arena.strike(f"kill -9 {victim.who} with {sessions} streams, while leases expire")
    victim.kill()
    await arena.ready()
    await _until_expired(arena, sessions * SLOTS)
    expired_s = time.monotonic() - killed_at - arena.settings.visibility_timeout_s
    arena.notes["all leases expired"] = f"{expired_s:.1f} s after the visibility timeout"
    await arena.settle(OPEN_S)
    arena.notes["all jobs done"] = f"{time.monotonic() - killed_at:.0f} s after the kill"


async def _enqueue(arena: Arena, count: int) -> None:
    async with arena.client(timeout=60) as client:
        for start in range(0, count, 5000):
            jobs = [
                NewJob(QUEUE, "work", json.dumps({"n": n}).encode(), job_id=new_job_id())
                for n in range(start, min(count, start + 5000))
            ]
            await client.enqueue_many(jobs)
            for job in jobs:
                record_enqueued(arena, job)


async def _start_herd(arena: Arena, name: str, sessions: int, *options: str) -> Actor:
    command = [sys.executable, "-m", "tests.chaos.herd", arena.server_list, "--name", name]
    command += ["--sessions", str(sessions), "--slots", str(SLOTS), *options]
    actor = arena.start_other(name, command)
    opened = arena.history / f"{name}.opened"
    await arena.progress.until(opened.exists, f"{sessions} sessions open", wait_s=OPEN_S)
    return actor


async def _until_expired(arena: Arena, count: int) -> None:
    expired = "select count(*) from atlasqueue.failures where cause = 'x'"
    async with asyncio.timeout(OPEN_S):
        while (await arena.sql(expired))[0][0] < count:
            await asyncio.sleep(0.1)
