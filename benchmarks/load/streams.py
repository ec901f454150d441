"""Runner: many sessions with a lease stream each, which hold what they get and complete nothing.

Each session is what a worker is to the server: a stream, and a heartbeat each interval that the server
names, with all that it holds. The heartbeats of the sessions are spread over the interval, as those of
workers that started at different moments are.
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
from benchmarks.load.payloads import QUEUE
from benchmarks.load.protocol import Stdio

# As many streams as a proxy or a large worker host would put on one connection.
STREAMS_A_CHANNEL = 50


class Session:
    """One stream and its heartbeats."""

    def __init__(self, channel: grpc.aio.Channel, name: str, slots: int) -> None:
        self._stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
        self._name = name
        self._slots = slots
        self.held: list[worker_service_pb2.HeldJob] = []
        self.opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.pings = 0
        self.beats = 0
        self.lost = 0

    async def stream(self) -> None:
        """Listens until it is cancelled."""
        request = worker_service_pb2.LeaseRequest(
            queues=[QUEUE], slots=self._slots, worker=self._name
        )
        call: Any = self._stub.Lease(request)
        async for event in call:
            match event.WhichOneof("event"):
                case "session_opened":
                    self.opened.set_result(event.session_opened)
                case "leased_jobs":
                    self.held += [
                        worker_service_pb2.HeldJob(queue=j.queue, job_id=j.job_id, fence=j.fence)
                        for j in event.leased_jobs.jobs
                    ]
                case "ping":
                    self.pings += 1

    async def heartbeats(self, delay: float) -> None:
        """Beats until it is cancelled, first after a share `delay` (0 to 1) of the interval."""
        opened = await self.opened
        interval = opened.heartbeat_interval.ToTimedelta().total_seconds()
        await asyncio.sleep(delay * interval)
        while True:
            request = worker_service_pb2.HeartbeatRequest(
                session_id=opened.session_id,
                epoch=opened.epoch,
                held=self.held,
                last_fence=max((job.fence for job in self.held), default=0),
            )
            response: Any = await self._stub.Heartbeat(request)
            self.beats += 1
            self.lost += len(response.lost)
            await asyncio.sleep(interval)


async def _measure(options: argparse.Namespace, stdio: Stdio) -> None:
    address = parse_addresses(options.address)[0]
    count = -(-options.streams // STREAMS_A_CHANNEL)
    channels = [open_aio_channel(address) for _ in range(count)]
    sessions = [
        Session(channels[n % count], f"bench-{n}", options.slots) for n in range(options.streams)
    ]
    tasks = [asyncio.create_task(session.stream()) for session in sessions]
    await asyncio.wait_for(asyncio.gather(*(session.opened for session in sessions)), 120)
    while sum(len(session.held) for session in sessions) < options.held:
        await asyncio.sleep(0.05)
    tasks += [
        asyncio.create_task(session.heartbeats(n / options.streams))
        for n, session in enumerate(sessions)
    ]
    await asyncio.to_thread(stdio.ready)
    began = time.monotonic()
    before = sum(session.beats for session in sessions)
    if tasks:
        await asyncio.wait(tasks, timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
    else:
        await asyncio.sleep(options.seconds)
    for task in tasks:
        if task.done():
            raise SystemExit(f"a stream ended: {task.exception()}")
    result = {
        "seconds": time.monotonic() - began,
        "beats": sum(session.beats for session in sessions) - before,
        "held": sum(len(session.held) for session in sessions),
        "lost": sum(session.lost for session in sessions),
    }
    await asyncio.to_thread(stdio.done, result)
    os._exit(0)


def main() -> None:
    """Parses and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="of the server [default: ATLASQUEUE_ADDRESS]")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=10)
    parser.add_argument("--held", type=int, default=0, help="wait until so many jobs are held")
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    uvloop.run(_measure(options, Stdio()))


if __name__ == "__main__":
    main()
