"""Runner: one poller that leases a batch, completes it, and times the lease. What a claim costs."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from typing import Any

import uvloop

from atlasqueue.channel import open_aio_channel, parse_addresses
from atlasqueue.v1 import worker_service_pb2, worker_service_pb2_grpc
from benchmarks.load.payloads import QUEUE
from benchmarks.load.protocol import Stdio


async def _measure(options: argparse.Namespace, stdio: Stdio) -> None:
    channel = open_aio_channel(parse_addresses(options.address)[0])
    stub: Any = worker_service_pb2_grpc.WorkerServiceStub(channel)
    request = worker_service_pb2.LeaseOnceRequest(
        queues=[QUEUE], max_jobs=options.batch, worker="claim"
    )
    took: list[int] = []
    handled = 0
    await asyncio.to_thread(stdio.ready)
    began = time.monotonic()
    for _ in range(options.claims):
        at = time.monotonic_ns()
        leased = await stub.LeaseOnce(request)
        took.append((time.monotonic_ns() - at) // 1000)
        request.session_id = leased.session.session_id
        if not leased.jobs:
            raise SystemExit("nothing was leased: the backlog is gone")
        handled += len(leased.jobs)
        outcomes = [
            worker_service_pb2.JobOutcome(
                queue=job.queue,
                job_id=job.job_id,
                fence=job.fence,
                complete=worker_service_pb2.Complete(),
            )
            for job in leased.jobs
        ]
        await stub.Report(
            worker_service_pb2.ReportRequest(session_id=request.session_id, outcomes=outcomes)
        )
    result = {"seconds": time.monotonic() - began, "handled": handled, "latencies_us": took}
    await asyncio.to_thread(stdio.done, result)
    os._exit(0)


def main() -> None:
    """Parses and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="of the server [default: ATLASQUEUE_ADDRESS]")
    parser.add_argument("--claims", type=int, default=300)
    parser.add_argument("--batch", type=int, default=100)
    uvloop.run(_measure(parser.parse_args(), Stdio()))


if __name__ == "__main__":
    main()
