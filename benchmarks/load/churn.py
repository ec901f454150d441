"""Runner: opens streams and cancels them after their first event, again and again.

It calls Lease at AtlasQueue's server, or with --bare the stream of load/bare_server.py: the same
script, so that what only grpc.aio costs is known.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from typing import Any

import grpc
import uvloop

from atlasqueue.channel import open_aio_channel, parse_addresses
from atlasqueue.v1 import worker_service_pb2, worker_service_pb2_grpc
from benchmarks.load.bare_server import METHOD
from benchmarks.load.payloads import QUEUE
from benchmarks.load.protocol import Stdio


async def _measure(options: argparse.Namespace, stdio: Stdio) -> None:
    channel = open_aio_channel(parse_addresses(options.address)[0])
    lease: Any = worker_service_pb2_grpc.WorkerServiceStub(channel).Lease
    if options.bare:
        lease = channel.unary_stream(
            METHOD,
            request_serializer=worker_service_pb2.LeaseRequest.SerializeToString,
            response_deserializer=worker_service_pb2.LeaseResponse.FromString,
        )

    async def churn(count: int) -> None:
        numbers = iter(range(count))

        async def caller() -> None:
            for number in numbers:
                request = worker_service_pb2.LeaseRequest(
                    queues=[QUEUE], slots=1, worker=f"churn-{number}"
                )
                call = lease(request)
                await call.read()
                call.cancel()
                try:
                    await call.code()
                except (grpc.RpcError, asyncio.CancelledError):
                    continue

        await asyncio.gather(*(caller() for _ in range(options.in_flight)))

    # Pools, caches and the allocator's arenas are filled by the first ones.
    await churn(options.warm_up)
    await asyncio.to_thread(stdio.ready)
    began = time.monotonic()
    await churn(options.count)
    await asyncio.to_thread(stdio.done, {"seconds": time.monotonic() - began})
    os._exit(0)


def main() -> None:
    """Parses and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="of the server [default: ATLASQUEUE_ADDRESS]")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--warm-up", type=int, default=2_000)
    parser.add_argument("--in-flight", type=int, default=8)
    uvloop.run(_measure(parser.parse_args(), Stdio()))


if __name__ == "__main__":
    main()
