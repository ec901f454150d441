"""How outcomes travel: large batches beside each other, small ones one after another, and all before the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from atlasqueue.errors import (
    AtlasQueueError,
    DatabaseUnavailable,
    DeadlineExceeded,
    InternalError,
    InvalidField,
    MessageTooLarge,
    Unavailable,
)
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue.v1 import worker_service_pb2_grpc
from atlasqueue_worker import reporter as reporting
from atlasqueue_worker.held import Held
from atlasqueue_worker.reporter import BESIDE_MIN, CALLS_MAX, OUTCOMES_MAX, Reporter
from atlasqueue_worker.session import Session
from tests.ports import free_port
from tests.waiting import eventually_so
from tests.worker import scripted
from tests.worker.scripted import WITHIN_S, Scripted, job


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


def report(reporter: Reporter, fences: Iterable[int], result: bytes = b"") -> None:
    """Hands in that the jobs under these fences have succeeded."""
    outcome = wire.JobOutcome(complete=wire.Complete(result=result)) if result else None
    for fence in fences:
        reporter.report(job(fence), outcome)


@asynccontextmanager
async def reporting_to(*addresses: str) -> AsyncIterator[tuple[Reporter, list[int]]]:
    """A reporter that runs, and the fences that it was answered."""
    answered: list[int] = []
    session = Session()
    reporter = Reporter(
        addresses,
        None,
        session,
        Held(),
        lambda job, *_: answered.append(job.fence),
        lambda jobs: answered.extend(job.fence for job in jobs),
    )
    running = asyncio.create_task(reporter.run())
    yield reporter, answered
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_large_batches_travel_beside_each_other_and_small_ones_do_not() -> None:
    server = Deaf()
    async with serving(server) as address, reporting_to(address) as (reporter, answered):
        for batch in range(CALLS_MAX + 1):
            report(reporter, range(1, BESIDE_MIN + 1))
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
        report(reporter, [1])
        await eventually_so(lambda: server.sizes == [1])
        report(reporter, range(2, 11))
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
            report(reporter, range(1, BESIDE_MIN + 1))
            await eventually_so(lambda batch=batch: len(silent.sizes) == batch)
        await reporter.flush()
        assert (len(silent.sizes), len(answering.sizes)) == (2, 2)
        assert len(answered) == 2 * BESIDE_MIN


@asynccontextmanager
async def holding(
    *servers: Scripted, jobs: int = 1
) -> AsyncIterator[tuple[Reporter, Held, list[int]]]:
    """A reporter of that many held jobs to the servers, and the fences that it was answered."""
    async with scripted.serving(*servers) as addresses:
        async with reporting_to(*addresses) as (reporter, answered):
            reporter._held.add([job(fence) for fence in range(1, jobs + 1)])
            yield reporter, reporter._held, answered


async def told(reporter: Reporter, count: int = 1, result: bytes = b"") -> None:
    """Returns when as many outcomes were answered."""
    report(reporter, range(1, count + 1), result)
    async with asyncio.timeout(WITHIN_S):
        await reporter.flush()


@pytest.mark.parametrize("refusal", [Unavailable, DeadlineExceeded, DatabaseUnavailable])
async def test_a_report_without_an_answer_is_sent_again_and_its_job_held(
    refusal: type[AtlasQueueError],
) -> None:
    server = Scripted()
    server.refusals += [refusal, refusal]
    async with holding(server) as (reporter, held, answered):
        first = reporter._connected()
        await told(reporter)
        assert [[outcome.fence for outcome in sent] for sent in server.reports] == [[1]] * 3
        assert answered == [1]
        assert held.snapshot()[0] == []
        # A connection that carries answers is kept; one that may be dead without a word is not.
        assert (reporter._connected() is first) == (refusal is DatabaseUnavailable)


async def test_what_a_server_cannot_do_another_one_may() -> None:
    server, other = Scripted(), Scripted()
    server.refusals.append(DatabaseUnavailable)
    async with holding(server, other) as (reporter, _, answered):
        await told(reporter)
        assert (len(server.reports), len(other.reports)) == (1, 1)
        assert answered == [1]


async def test_a_report_that_a_bug_refuses_is_given_up_and_its_jobs_go_back() -> None:
    """Held, they would be kept alive by heartbeats for ever, with no handler."""
    server = Scripted()
    server.refusals.append(InternalError)
    async with holding(server, jobs=2) as (reporter, held, answered):
        await told(reporter, 2)
        assert (len(server.reports), answered, held.snapshot()[0]) == (1, [], [])


@pytest.mark.parametrize("refusal", [InvalidField, MessageTooLarge])
async def test_an_outcome_that_is_refused_in_every_form_is_given_up(
    refusal: type[AtlasQueueError],
) -> None:
    server = Scripted()
    # Both, the first alone, and that it was refused.
    server.refusals += [refusal] * 3
    async with holding(server, jobs=2) as (reporter, held, answered):
        await told(reporter, 2)
        sent = [[(o.fence, o.fail.error.type) for o in report] for report in server.reports]
        assert sent == [[(1, ""), (2, "")], [(1, "")], [(1, "OutcomeRefused")], [(2, "")]]
        assert (answered, held.snapshot()[0]) == ([2], [])


@pytest.mark.parametrize(
    ("count", "result", "sizes"),
    [
        (OUTCOMES_MAX + 1, b"", [OUTCOMES_MAX, 1]),
        (14, b"x" * 256 * 1024, [11, 3]),
    ],
)
async def test_a_report_fits_into_a_message(count: int, result: bytes, sizes: list[int]) -> None:
    server = Scripted()
    async with holding(server) as (reporter, _, answered):
        await told(reporter, count, result)
        assert [len(report) for report in server.reports] == sizes
        assert answered == list(range(1, count + 1))
