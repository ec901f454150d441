"""Enqueues jobs at a steady rate until it is stopped: python -m deploy.load --help."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys

from atlasqueue import AsyncClient, AtlasQueueError
from atlasqueue.channel import parse_addresses
from deploy.load.orders import Mix, order

TICKS_PER_S = 10
TELL_EACH_S = 10


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.load",
        description="Enqueue jobs for deploy.load.app at a steady rate. Stop it with Ctrl-C.",
        epilog="Example: python -m deploy.load --server 127.0.0.1:7420 --rate 200 --retry 0.1",
    )
    address = os.environ.get("ATLASQUEUE_ADDRESS", "127.0.0.1:7420")
    parser.add_argument(
        "--server", default=address, help="host:port, or several with commas (%(default)s)"
    )
    parser.add_argument("--rate", type=int, default=50, help="jobs a second (%(default)s)")
    parser.add_argument("--count", type=int, help="stop after so many jobs; default: never")
    parser.add_argument(
        "--retry", type=float, default=0.05, help="share that fails once (%(default)s)"
    )
    parser.add_argument("--die", type=float, default=0.002, help="share that dies (%(default)s)")
    parser.add_argument("--seed", type=int, help="for the same jobs again")
    given = parser.parse_args()
    if not 1 <= given.rate <= 10_000:
        parser.error("--rate must be between 1 and 10000")
    if given.count is not None and given.count < 1:
        parser.error("--count must be at least 1")
    try:
        parse_addresses(given.server)
        given.mix = Mix(given.retry, given.die)
    except ValueError as error:
        parser.error(str(error))
    return given


def batch_size(sent: int, elapsed_s: float, rate: int, count: int | None) -> int:
    """Jobs to send now so that `rate` is kept. A pause is not caught up for more than a second's worth."""
    due = min(int(elapsed_s * rate) - sent, rate)
    return max(0, due if count is None else min(due, count - sent))


async def generate(given: argparse.Namespace, stop: asyncio.Event) -> int:
    """Enqueues until `stop` or the count; returns how many. Waits out servers that do not answer."""
    chance = random.Random(given.seed)
    loop = asyncio.get_running_loop()
    started = told = loop.time()
    sent = 0
    async with AsyncClient(given.server) as client:
        while not stop.is_set() and sent != given.count:
            now = loop.time()
            jobs = [
                order(chance, given.mix)
                for _ in range(batch_size(sent, now - started, given.rate, given.count))
            ]
            try:
                await client.enqueue_many(jobs)
            except AtlasQueueError as error:
                print(f"waiting: {error}", file=sys.stderr, flush=True)
                await asyncio.sleep(1)
                started = loop.time() - sent / given.rate
                continue
            sent += len(jobs)
            if now - told >= TELL_EACH_S:
                told = now
                print(f"{sent} jobs enqueued", flush=True)
            try:
                await asyncio.wait_for(stop.wait(), 1 / TICKS_PER_S)
            except TimeoutError:
                pass
    print(f"{sent} jobs enqueued in all", flush=True)
    return sent


async def main() -> None:
    """Runs until SIGTERM, Ctrl-C or the count."""
    given = arguments()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await generate(given, stop)


if __name__ == "__main__":
    asyncio.run(main())
