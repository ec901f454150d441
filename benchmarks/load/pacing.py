"""An open loop: jobs at a steady rate, whatever the queue does. Needs the standard library only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

# One timer for many jobs above this rate; below, each job has its own moment.
TICK_S = 0.01


def batch_at(rate: float) -> int:
    """How many jobs travel together at `rate` jobs a second."""
    return max(1, round(rate * TICK_S)) if rate * TICK_S > 1 else 1


async def paced(jobs: int, rate: float, send: Callable[[int], Awaitable[object]]) -> int:
    """Calls `send(count)` at its moments, without waiting for it; returns the largest count.

    What is late is sent at once, and carries the stamp of when it is sent.
    """
    each = batch_at(rate)
    began = time.monotonic()
    calls: set[asyncio.Future[object]] = set()
    for sent in range(0, jobs, each):
        await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
        call = asyncio.ensure_future(send(min(each, jobs - sent)))
        calls.add(call)
        call.add_done_callback(calls.discard)
    await asyncio.gather(*calls)
    return each
