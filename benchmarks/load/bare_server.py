"""Runner: a grpc.aio server with nothing behind it: a stream that says one thing and waits to be cancelled,
and WorkerService for workers without jobs, pings and heartbeats as often as AtlasQueue's.

What it costs is what grpc.aio costs: the same library, event loop and messages.
Its address is the result that it prints; it ends when the harness says stop.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

from atlasqueue.v1 import worker_service_pb2, worker_service_pb2_grpc
from atlasqueue_server.model import limits
from benchmarks.load.protocol import Stdio

SERVICE = "atlasqueue.bench.Bare"
METHOD = f"/{SERVICE}/Lease"
HEARTBEAT_S = limits.VISIBILITY_TIMEOUT_S_DEFAULT // limits.HEARTBEATS_PER_VISIBILITY_TIMEOUT


async def lease(
    _request: worker_service_pb2.LeaseRequest, _context: Any
) -> AsyncIterator[worker_service_pb2.LeaseResponse]:
    """One event, then nothing."""
    yield worker_service_pb2.LeaseResponse(
        session_opened=worker_service_pb2.SessionOpened(session_id=1, epoch=1)
    )
    await asyncio.Event().wait()


class Workers(worker_service_pb2_grpc.WorkerServiceServicer):
    """Pings and answers; there are no sessions and no jobs."""

    async def Lease(self, request: Any, context: Any) -> Any:
        """A ping each interval."""
        opened = worker_service_pb2.LeaseResponse()
        opened.session_opened.session_id = opened.session_opened.epoch = 1
        opened.session_opened.heartbeat_interval.FromSeconds(HEARTBEAT_S)
        await context.write(opened)
        while True:
            await asyncio.sleep(limits.PING_INTERVAL_S)
            ping = worker_service_pb2.LeaseResponse()
            ping.ping.server_time.FromNanoseconds(time.time_ns())
            await context.write(ping)

    async def Heartbeat(self, request: Any, context: Any) -> Any:
        """The stream lives."""
        response = worker_service_pb2.HeartbeatResponse(stream=worker_service_pb2.STREAM_STATE_LIVE)
        response.time_left.FromSeconds(limits.VISIBILITY_TIMEOUT_S_DEFAULT)
        response.heartbeat_interval.FromSeconds(HEARTBEAT_S)
        return response


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
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(Workers(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.to_thread(stdio.ready)
    await asyncio.to_thread(stdio.done, {"address": f"127.0.0.1:{port}"})
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(_serve(Stdio()))
