"""Runner for Procrastinate (https://procrastinate.readthedocs.io), on its psycopg connector.

It fetches and finishes one job a statement; concurrency and the pool are what can be tuned.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from procrastinate import App, PsycopgConnector

from benchmarks.load.payloads import stamped
from benchmarks.peers.python_runner import Handled, main

Options = argparse.Namespace
logging.getLogger("procrastinate").setLevel(logging.WARNING)


def configure(parser: argparse.ArgumentParser) -> None:
    """What only Procrastinate has."""
    parser.add_argument("--concurrency", type=int, default=32)


async def app_with(options: Options, handled: Handled | None = None) -> App:
    """An open app whose one task counts."""
    connector = PsycopgConnector(conninfo=options.database_url, min_size=4, max_size=20)
    app = App(connector=connector)

    @app.task(name="bench", queue="bench")
    async def bench(n: int = 0, t: int = 0) -> None:
        assert handled is not None
        handled.seen(b'{"t":%d}' % t)

    await app.open_async()
    return app


async def setup(options: Options) -> None:
    """Makes the schema."""
    await (await app_with(options)).schema_manager.apply_schema_async()


async def enqueue(options: Options) -> Callable[[int, int], Awaitable[Any]]:
    """One statement a batch."""
    task = (await app_with(options)).tasks["bench"]
    return lambda start, count: task.batch_defer_async(
        *({"n": n} for n in range(start, start + count))
    )


async def produce(options: Options) -> Callable[[int, int], Awaitable[Any]]:
    """Stamped jobs."""
    task = (await app_with(options)).tasks["bench"]
    return lambda _start, count: task.batch_defer_async(
        *(json.loads(stamped()) for _ in range(count))
    )


async def work(options: Options, handled: Handled) -> Callable[[], Awaitable[Any]]:
    """One worker."""
    app = await app_with(options, handled)
    return lambda: app.run_worker_async(
        queues=["bench"], concurrency=options.concurrency, install_signal_handlers=False
    )


if __name__ == "__main__":
    main(setup, enqueue, produce, work, configure)
