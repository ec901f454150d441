"""How outcomes travel: large batches beside each other, small ones one after another, and all before the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue.v1 import worker_service_pb2_grpc
from atlasqueue_worker import reporter as reporting
from atlasqueue_worker.held import Held
from atlasqueue_worker.reporter import BESIDE_MIN, CALLS_MAX, Reporter
from atlasqueue_worker.session import Session
from tests.ports import free_port
from tests.waiting import eventually_so


class Deaf(worker_service_pb2_grpc.WorkerServiceServicer):
    """Takes reports, and answers them when it is told to."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.answer = asyncio.Event()

    async def Report(self, request: wire.ReportRequest, _: Any) -> wire.ReportResponse:
        """One report, held back."""
        self.sizes.append(len(request.outcomes))
        await self.answer.wait()
        applied = wire.ReportResult(status=wire.REPORT_STATUS_APPLIED)
        return wire.ReportResponse(results=[applied] * len(request.outcomes))


@asynccontextmanager
async def serving(server: Deaf) -> AsyncIterator[str]:
    """The address at which it listens."""
    served = grpc.aio.server()
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(server, served)
    address = f"127.0.0.1:{free_port()}"
    served.add_insecure_port(address)
    await served.start()
    yield address
    await served.stop(None)


def outcomes(count: int) -> list[wire.JobOutcome]:
    """Outcomes of jobs that were never leased."""
    return [wire.JobOutcome(queue="q", job_id="j", fence=n + 1) for n in range(count)]


@asynccontextmanager
async def reporting_to(*addresses: str) -> AsyncIterator[tuple[Reporter, list[int]]]:
    """A reporter that runs, and the fences that it was answered."""
    answered: list[int] = []
    session = Session()
    reporter = Reporter(
        addresses, None, session, Held(), lambda outcome, _: answered.append(outcome.fence)
    )
    running = asyncio.create_task(reporter.run())
    yield reporter, answered
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_large_batches_travel_beside_each_other_and_small_ones_do_not() -> None:
    server = Deaf()
    async with serving(server) as address, reporting_to(address) as (reporter, answered):
        for batch in range(CALLS_MAX + 1):
            for outcome in outcomes(BESIDE_MIN):
                reporter.report(outcome)
            out = min(batch + 1, CALLS_MAX)
            await eventually_so(lambda out=out: len(server.sizes) == out)
        flushed = asyncio.create_task(reporter.flush())
        await asyncio.sleep(0)
        assert not flushed.done()
        server.answer.set()
        await flushed
        assert server.sizes == [BESIDE_MIN] * (CALLS_MAX + 1)
        assert len(answered) == BESIDE_MIN * (CALLS_MAX + 1)


async def test_what_gathers_while_a_call_is_out_goes_with_the_next_one() -> None:
    server = Deaf()
    async with serving(server) as address, reporting_to(address) as (reporter, _):
        first, *later = outcomes(10)
        reporter.report(first)
        await eventually_so(lambda: server.sizes == [1])
        for outcome in later:
            reporter.report(outcome)
        server.answer.set()
        await reporter.flush()
        assert server.sizes == [1, 9]


async def test_calls_that_fail_together_leave_a_server_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rotating once a call, two of them would end at the server that they had left."""
    monkeypatch.setattr(reporting, "CALL_TIMEOUT_S", 1.0)
    silent, answering = Deaf(), Deaf()
    answering.answer.set()
    async with (
        serving(silent) as dead,
        serving(answering) as alive,
        reporting_to(dead, alive) as (reporter, answered),
    ):
        for batch in (1, 2):
            for outcome in outcomes(BESIDE_MIN):
                reporter.report(outcome)
            await eventually_so(lambda batch=batch: len(silent.sizes) == batch)
        await reporter.flush()
        assert (len(silent.sizes), len(answering.sizes)) == (2, 2)
        assert len(answered) == 2 * BESIDE_MIN
