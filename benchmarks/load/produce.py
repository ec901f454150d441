"""Runner: an AtlasQueue producer on the Python SDK.

--way bulk    enqueue_many, as many jobs a call as the SDK puts into a message
--way unary   enqueue, one job a call, a number of calls in flight
--way empty   an empty RPC instead of each enqueue, same calls in flight: what gRPC alone costs
--way paced   stamped jobs at a steady rate, whatever the server does (an open loop)
    --way ahead   bulk for a number of seconds, never more than --backlog ahead of the workers
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from atlasqueue import AsyncClient, NewJob
from atlasqueue.channel import open_aio_channel, parse_addresses
from benchmarks.load import pacing
from benchmarks.load.payloads import KIND, QUEUE, numbered, stamped
from benchmarks.load.protocol import Stdio
from benchmarks.load.shared_count import SharedCount

AHEAD_BATCH = 2000


async def bulk(client: AsyncClient, options: argparse.Namespace) -> dict[str, Any]:
    """All jobs in a few calls that run at the same time."""
    share = -(-options.jobs // options.in_flight)

    def jobs(start: int, end: int) -> Iterator[NewJob]:
        return (NewJob(QUEUE, KIND, numbered(number)) for number in range(start, end))

    starts = range(0, options.jobs, share)
    await asyncio.gather(
        *(client.enqueue_many(jobs(at, min(at + share, options.jobs))) for at in starts)
    )
    return {}


async def unary(client: AsyncClient, options: argparse.Namespace) -> dict[str, Any]:
    """One job a call."""
    return await _in_flight(options, lambda n: client.enqueue(QUEUE, KIND, numbered(n)))


async def empty(_client: AsyncClient, options: argparse.Namespace) -> dict[str, Any]:
    """grpc.health.v1.Health/Check: the server looks a name up in a dict and answers one enum."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    channel = open_aio_channel(parse_addresses(options.address)[0])
    check = health_pb2_grpc.HealthStub(channel).Check
    request = health_pb2.HealthCheckRequest()
    try:
        return await _in_flight(options, lambda _n: check(request, timeout=10.0))
    finally:
        await channel.close()


async def _in_flight(
    options: argparse.Namespace, call: Callable[[int], Awaitable[Any]]
) -> dict[str, Any]:
    numbers = iter(range(options.jobs))
    took: list[int] = []

    async def caller() -> None:
        for number in numbers:
            began = time.monotonic_ns()
            await call(number)
            took.append((time.monotonic_ns() - began) // 1000)

    await asyncio.gather(*(caller() for _ in range(options.in_flight)))
    return {"latencies_us": took}


async def paced(client: AsyncClient, options: argparse.Namespace) -> dict[str, Any]:
    """Stamped jobs at `rate` a second."""

    async def send(count: int) -> None:
        if count == 1:
            await client.enqueue(QUEUE, KIND, stamped())
        else:
            await client.enqueue_many([NewJob(QUEUE, KIND, stamped()) for _ in range(count)])

    return {"batch": await pacing.paced(options.jobs, options.rate, send)}


async def ahead(client: AsyncClient, options: argparse.Namespace) -> dict[str, Any]:
    """Keeps the workers busy and the backlog small."""
    handled = SharedCount(options.count)
    end = time.monotonic() + options.seconds
    sent = 0

    async def caller() -> None:
        nonlocal sent
        while time.monotonic() < end:
            if sent - handled.value > options.backlog:
                await asyncio.sleep(0.005)
                continue
            start, sent = sent, sent + AHEAD_BATCH
            await client.enqueue_many(
                NewJob(QUEUE, KIND, numbered(n)) for n in range(start, start + AHEAD_BATCH)
            )

    await asyncio.gather(*(caller() for _ in range(options.in_flight)))
    return {"sent": sent}


WAYS = {"ahead": ahead, "bulk": bulk, "unary": unary, "empty": empty, "paced": paced}


async def _measure(options: argparse.Namespace, stdio: Stdio) -> None:
    async with AsyncClient(options.address) as client:
        await client.cluster()
        await asyncio.to_thread(stdio.ready)
        began = time.monotonic()
        result = await WAYS[options.way](client, options)
        await asyncio.to_thread(stdio.done, {"seconds": time.monotonic() - began} | result)


def main() -> None:
    """Parses and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="of the server [default: ATLASQUEUE_ADDRESS]")
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--backlog", type=int, default=10_000)
    parser.add_argument("--count", type=Path, help="the file of load/work.py's --count")
    parser.add_argument("--in-flight", type=int, default=2)
    parser.add_argument("--rate", type=float, default=20.0, help="jobs a second, for --way paced")
    options = parser.parse_args()
    uvloop.run(_measure(options, Stdio()))
    os._exit(0)


if __name__ == "__main__":
    main()
