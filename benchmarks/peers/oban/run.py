"""Runner for Oban for Python (https://oban.pro), the open-source edition, on its psycopg pool.

An enqueue tells nobody: its stager wakes the queue. The interval of one second that it has by default
would be all that the latency shows, so it is 20 ms here; the debounce is the least there is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from oban import Oban, worker
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from benchmarks.load.payloads import stamped
from benchmarks.peers.python_runner import Handled, main

Options = argparse.Namespace
handled: Handled | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """What only Oban has."""
    parser.add_argument("--limit", type=int, default=200)


@worker(queue="bench")
class Bench:
    """The trivial worker."""

    async def process(self, job: Any) -> None:
        """Counts."""
        assert handled is not None
        handled.seen(b'{"t":%d}' % job.args.get("t", 0))


async def pool(options: Options) -> AsyncConnectionPool:
    """An open pool."""
    opened = AsyncConnectionPool(options.database_url, min_size=2, max_size=10, open=False)
    await opened.open(wait=True)
    return opened


async def setup(options: Options) -> None:
    """Makes the schema."""
    await install(await pool(options))


async def enqueue(options: Options) -> Callable[[int, int], Awaitable[Any]]:
    """One statement a batch."""
    oban = Oban(pool=await pool(options))

    async def send(start: int, count: int) -> None:
        await oban.enqueue_many(Bench.new({"n": n}) for n in range(start, start + count))

    return send


async def produce(options: Options) -> Callable[[int, int], Awaitable[Any]]:
    """Stamped jobs."""
    oban = Oban(pool=await pool(options))

    async def send(_start: int, count: int) -> None:
        await oban.enqueue_many([Bench.new(json.loads(stamped())) for _ in range(count)])

    return send


async def work(options: Options, counter: Handled) -> Callable[[], Awaitable[Any]]:
    """One queue."""
    global handled
    handled = counter
    oban = Oban(
        pool=await pool(options),
        queues={"bench": {"limit": options.limit, "debounce_interval": 0.001}},
        stager={"interval": 0.02},
    )

    async def run() -> None:
        async with oban:
            await asyncio.Event().wait()

    return run


if __name__ == "__main__":
    main(setup, enqueue, produce, work, configure)
