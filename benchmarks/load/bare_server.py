"""Runner: a grpc.aio server with one stream that says one thing and waits to be cancelled.

What it costs is what grpc.aio costs: the same library, event loop and messages, no queue behind it.
Its address is the result that it prints; it ends when the harness says stop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

from atlasqueue.v1 import worker_service_pb2
from benchmarks.load.protocol import Stdio

SERVICE = "atlasqueue.bench.Bare"
METHOD = f"/{SERVICE}/Lease"


async def lease(
    _request: worker_service_pb2.LeaseRequest, _context: Any
) -> AsyncIterator[worker_service_pb2.LeaseResponse]:
    """One event, then nothing."""
    yield worker_service_pb2.LeaseResponse(
        session_opened=worker_service_pb2.SessionOpened(session_id=1, epoch=1)
    )
    await asyncio.Event().wait()


async def _serve(stdio: Stdio) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler = grpc.unary_stream_rpc_method_handler(
        lease,
        request_deserializer=worker_service_pb2.LeaseRequest.FromString,
        response_serializer=worker_service_pb2.LeaseResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"Lease": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.to_thread(stdio.ready)
    await asyncio.to_thread(stdio.done, {"address": f"127.0.0.1:{port}"})
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(_serve(Stdio()))
