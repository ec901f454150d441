"""Runner: AtlasQueue workers with a trivial handler, until a number of jobs has been handled.

    --jobs N       ends when N were handled
    --seconds S    ends after S seconds instead
    --latency      its result holds how long each job took from its stamp to its handler
    --count FILE   how many were handled so far, for a producer that must not run ahead

Its result holds how many jobs were handled in each tenth of a second or so, as [seconds, handled].
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import MutableSequence
from pathlib import Path
from typing import Any

import uvloop

from atlasqueue_worker import App, JobContext, Worker, tracing
from atlasqueue_worker.garbage import collect_rarely
from benchmarks.load.payloads import KIND, QUEUE, age_us
from benchmarks.load.protocol import Stdio
from benchmarks.load.shared_count import SharedCount

POLL_S = 0.002
SERIES_S = 0.1


def _app(
    handled: MutableSequence[int], index: int, ages: list[int] | None, sleep_s: float = 0
) -> App:
    app = App()

    if ages is not None:

        @app.job(KIND, queue=QUEUE)
        async def timed(job: JobContext) -> None:
            ages.append(age_us(job.payload))
            handled[index] += 1

    elif sleep_s:

        @app.job(KIND, queue=QUEUE)
        async def held(_job: JobContext) -> None:
            handled[index] += 1
            await asyncio.sleep(sleep_s)

    else:

        @app.job(KIND, queue=QUEUE)
        async def trivial(_job: JobContext) -> None:
            handled[index] += 1

    return app


async def _until(
    handled: MutableSequence[int], options: argparse.Namespace, series: list[tuple[float, int]]
) -> None:
    shared = SharedCount(options.count) if options.count else None
    began = time.monotonic()
    while (done := sum(handled)) < options.jobs:
        now = time.monotonic() - began
        if shared is not None:
            shared.value = done
        if not series or now - series[-1][0] >= SERIES_S:
            series.append((round(now, 3), done))
        if options.seconds and now >= options.seconds:
            return
        await asyncio.sleep(POLL_S)


def _child(options: argparse.Namespace, handled: Any, index: int) -> None:
    """Another worker process; the parent ends it."""
    app = _app(handled, index, None, options.hold)
    collect_rarely()
    uvloop.run(Worker(app, options.address, slots=options.slots, queues=[QUEUE]).run())


async def _measure(options: argparse.Namespace, stdio: Stdio, handled: Any) -> None:
    ages: list[int] | None = [] if options.latency else None
    worker = Worker(
        _app(handled, 0, ages, options.hold), options.address, slots=options.slots, queues=[QUEUE]
    )
    # Not before the harness says go: the rest of this process is ready.
    await asyncio.to_thread(stdio.ready)
    began = time.monotonic()
    running = asyncio.create_task(worker.run())
    series: list[tuple[float, int]] = []
    counting = asyncio.create_task(_until(handled, options, series))
    await asyncio.wait({running, counting}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
        raise SystemExit("the worker ended before its jobs did")
    result: dict[str, Any] = {
        "seconds": time.monotonic() - began,
        "handled": sum(handled),
        "series": series,
    }
    if ages is not None:
        result["latencies_us"] = ages
    await asyncio.to_thread(stdio.done, result)
    worker.stop()
    await asyncio.wait({running}, timeout=10)


def main() -> None:
    """Parses, starts the other workers, measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="of the server [default: ATLASQUEUE_ADDRESS]")
    parser.add_argument("--jobs", type=int, default=sys.maxsize)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--count", type=Path)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--hold", type=float, default=0, help="seconds each handler takes")
    options = parser.parse_args()
    # Nothing, unless the OTEL_* variables ask for it.
    tracing.configure()
    # As `atlasqueue-worker run`.
    collect_rarely()
    stdio = Stdio()
    handled = multiprocessing.RawArray("q", options.workers) if options.workers > 1 else [0]
    spawn = multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=_child, args=(options, handled, index), daemon=True)
        for index in range(1, options.workers)
    ]
    for each in others:
        each.start()
    uvloop.run(_measure(options, stdio, handled))
    for each in others:
        each.kill()
        each.join()
    # Threads of gRPC must not keep a process that has nothing left to do.
    os._exit(0)


if __name__ == "__main__":
    main()
