"""The frame of the runners that are written in Python, each in a virtual environment of its own.

Needs the standard library and uvloop only. A queue brings four coroutines; see `main`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import uvloop

from benchmarks.load import pacing
from benchmarks.load.payloads import age_us
from benchmarks.load.protocol import Stdio


@dataclass
class Handled:
    """What the handlers have seen; each calls `seen` with its payload."""

    jobs: int
    latency: bool
    count: int = 0
    ages: list[int] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def seen(self, payload: bytes = b"") -> None:
        """A handler has started."""
        self.count += 1
        if self.latency:
            self.ages.append(age_us(payload))
        if self.count == self.jobs:
            self.done.set()


Options = argparse.Namespace
# Prepares, then returns what runs until it is cancelled.
Prepare = Callable[[Options, Handled], Awaitable[Callable[[], Awaitable[Any]]]]
# Prepares, then returns what sends jobs number `start` to `start + count`.
Sender = Callable[[Options], Awaitable[Callable[[int, int], Awaitable[Any]]]]


def main(
    setup: Callable[[Options], Awaitable[None]],
    enqueue: Sender,
    produce: Sender,
    work: Prepare,
    configure: Callable[[argparse.ArgumentParser], None] = lambda _parser: None,
) -> None:
    """Parses the command line and runs the action that it names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database-url", default=os.environ.get("BENCH_DATABASE_URL"))
    parser.add_argument("--action", choices=["setup", "enqueue", "work", "produce"], required=True)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--batch", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=2)
    parser.add_argument("--latency", action="store_true")
    configure(parser)
    options = parser.parse_args()
    stdio = Stdio()
    actions = {
        "setup": lambda: _setup(options, setup),
        "enqueue": lambda: _enqueue(options, stdio, enqueue),
        "produce": lambda: _produce(options, stdio, produce),
        "work": lambda: _work(options, stdio, work),
    }
    uvloop.run(actions[options.action]())
    # Pools and threads must not keep a process that has nothing left to do.
    os._exit(0)


async def _setup(options: Options, setup: Callable[[Options], Awaitable[None]]) -> None:
    await setup(options)


async def _enqueue(options: Options, stdio: Stdio, sender: Sender) -> None:
    send = await sender(options)
    starts = iter(range(0, options.jobs, options.batch))
    await asyncio.to_thread(stdio.ready)
    began = time.monotonic()

    async def caller() -> None:
        for start in starts:
            await send(start, min(options.batch, options.jobs - start))

    await asyncio.gather(*(caller() for _ in range(options.in_flight)))
    await asyncio.to_thread(stdio.done, {"seconds": time.monotonic() - began})


async def _produce(options: Options, stdio: Stdio, sender: Sender) -> None:
    send = await sender(options)
    await asyncio.to_thread(stdio.ready)
    began = time.monotonic()
    batch = await pacing.paced(options.jobs, options.rate, lambda count: send(0, count))
    await asyncio.to_thread(stdio.done, {"seconds": time.monotonic() - began, "batch": batch})


async def _work(options: Options, stdio: Stdio, prepare: Prepare) -> None:
    handled = Handled(options.jobs, options.latency)
    run = await prepare(options, handled)
    await asyncio.to_thread(stdio.ready)
    began = time.monotonic()
    running = asyncio.ensure_future(run())
    counting = asyncio.ensure_future(handled.done.wait())
    await asyncio.wait({running, counting}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
        raise SystemExit("the worker ended before its jobs did")
    result: dict[str, Any] = {"seconds": time.monotonic() - began, "handled": handled.count}
    if options.latency:
        result["latencies_us"] = handled.ages
    await asyncio.to_thread(stdio.done, result)
    # The database is dropped next: nothing is left that a graceful end could save.
    os._exit(0)
