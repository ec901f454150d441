"""Periodic work without a clock of its own: each tick enqueues the next one.

tick 12:00 ──enqueues──▶ tick 12:01 (run_at 12:01) ──enqueues──▶ tick 12:02 ...

A tick's job id is made from its kind and its time, so whoever enqueues it, and however often, it is one job:
two workers, a repeated run and `start` at every deploy cannot make a tick run double. The tick lies in the
database until it is due, so it survives restarts of everything else.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from atlasqueue import AsyncClient
from atlasqueue_worker import App, JobContext

QUEUE = "periodic"
KIND = "tick"
# Any UUID of your own: it keeps your ticks apart from everybody else's ids.
NAMESPACE = uuid.UUID("6f0e4c9a-5d0e-4f0b-9b54-0d3c8a1b7e21")
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)

app = App()


@cache
def client() -> AsyncClient:
    """One client for all handlers."""
    return AsyncClient()


def interval() -> timedelta:
    """How often."""
    return timedelta(seconds=float(os.environ.get("PERIODIC_SECONDS", "60")))


def tick_after(moment: datetime, every: timedelta) -> datetime:
    """The first tick after a moment. A cron library's `next` fits here as well."""
    return EPOCH + ((moment - EPOCH) // every + 1) * every


def tick_id(kind: str, tick: datetime) -> str:
    """The one id of a tick."""
    return str(uuid.uuid5(NAMESPACE, f"{kind} {tick.isoformat()}"))


async def enqueue_tick(client: AsyncClient, tick: datetime) -> None:
    """The tick, once, however often this is called."""
    payload = json.dumps({"tick": tick.isoformat()}).encode()
    await client.enqueue(QUEUE, KIND, payload, job_id=tick_id(KIND, tick), run_at=tick)


async def start(client: AsyncClient, every: timedelta) -> None:
    """Begins the chain, or mends it: safe at every deploy and every hour."""
    await enqueue_tick(client, tick_after(datetime.now(UTC), every))


@app.job(KIND, queue=QUEUE)
async def tick(job: JobContext) -> None:
    """The next tick first: if the work fails, the chain goes on and this tick alone is retried."""
    this = datetime.fromisoformat(job.json()["tick"])
    # After a long outage the missed ticks are left out. To catch up with each: tick_after(this, ...).
    await enqueue_tick(client(), tick_after(max(this, datetime.now(UTC)), interval()))
    await work(this)


async def work(tick: datetime) -> None:
    """What is done at each tick; here: a line."""
    with Path(os.environ["PERIODIC_LOG"]).open("a") as log:
        log.write(f"{tick.isoformat()}\n")
    await asyncio.sleep(0)
