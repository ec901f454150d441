"""Runner for pgqueuer (https://github.com/janbjorge/pgqueuer), on asyncpg and uvloop.

batch_size is both what a fetch takes and what its log of completions gathers.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries

from benchmarks.load.payloads import numbered, stamped
from benchmarks.peers.python_runner import Handled, main

Options = argparse.Namespace


def configure(parser: argparse.ArgumentParser) -> None:
    """What only pgqueuer has."""
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--managers", type=int, default=2, help="queue managers, a connection each")


async def queries(options: Options) -> Queries:
    """On a connection of its own."""
    return Queries(AsyncpgDriver(await asyncpg.connect(options.database_url)))


async def setup(options: Options) -> None:
    """Makes the schema."""
    await (await queries(options)).install()


async def enqueue(options: Options) -> Callable[[int, int], Awaitable[Any]]:
    """One call a batch; each caller has a connection, because calls on one would wait in line."""
    free: asyncio.Queue[Queries] = asyncio.Queue()
    for _ in range(options.in_flight):
        free.put_nowait(await queries(options))

    async def send(start: int, count: int) -> None:
        connection = await free.get()
        payloads = [numbered(n) for n in range(start, start + count)]
        await connection.enqueue(["bench"] * count, payloads, [0] * count)
        free.put_nowait(connection)

    return send


async def produce(options: Options) -> Callable[[int, int], Awaitable[Any]]:
    """Stamped jobs."""
    connection = await queries(options)

    async def send(_start: int, count: int) -> None:
        await connection.enqueue(["bench"] * count, [stamped() for _ in range(count)], [0] * count)

    return send


async def work(options: Options, handled: Handled) -> Callable[[], Awaitable[Any]]:
    """Queue managers that fetch in batches."""
    managers = [QueueManager(await queries(options)) for _ in range(options.managers)]
    for manager in managers:

        @manager.entrypoint("bench")
        async def bench(job: Job) -> None:
            handled.seen(job.payload or b"")

    return lambda: asyncio.gather(
        *(manager.run(batch_size=options.batch_size) for manager in managers)
    )


if __name__ == "__main__":
    main(setup, enqueue, produce, work, configure)
