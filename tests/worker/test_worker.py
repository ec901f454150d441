"""How a worker ends, with a server that says what the test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

import pytest
import structlog

from atlasqueue.errors import SessionSuperseded, Unavailable
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue_worker import App, JobContext, Worker
from atlasqueue_worker import worker as working
from tests.waiting import eventually_so
from tests.worker.scripted import WITHIN_S, Scripted, brings, serving


class Hands:
    """Async handlers that wait until they may end, and plain ones that wait until they are asked to."""

    def __init__(self) -> None:
        self.begun: list[JobContext] = []
        self.stopped: list[int] = []
        self.go_on = asyncio.Event()

    async def coroutine(self, job: JobContext) -> None:
        """Until it may end."""
        self.begun.append(job)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.stopped.append(job.fence)
            raise

    def plain(self, job: JobContext) -> None:
        """Until it is asked to stop."""
        self.begun.append(job)
        if job.wait_cancelled(WITHIN_S):
            self.stopped.append(job.fence)


@asynccontextmanager
async def running(
    server: Scripted, handler: Callable[[JobContext], object], grace: float = 0
) -> AsyncIterator[tuple[Worker, asyncio.Task[None]]]:
    """A worker, and its run."""
    app = App()
    app.job("do", queue="q")(handler)
    async with serving(server) as addresses:
        worker = Worker(app, addresses, grace=grace)
        run = asyncio.create_task(worker.run())
        yield worker, run
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(run, return_exceptions=True)
        # They would keep the session of a worker that is gone.
        assert not worker._heartbeater._thread.is_alive()


def ended_as(server: Scripted) -> list[tuple[int, str | None]]:
    """What was reported, by fence."""
    return sorted((o.fence, o.WhichOneof("outcome")) for o in chain(*server.reports))


@pytest.mark.parametrize("plain", [False, True])
async def test_handlers_are_asked_to_stop_when_the_run_is_cancelled(plain: bool) -> None:
    """How it showed: they went on without heartbeats, beside the workers that had their jobs by then."""
    server, hands = Scripted(), Hands()
    server.streams.append(brings(1, 2))
    async with running(server, hands.plain if plain else hands.coroutine) as (_, run):
        await eventually_so(lambda: len(hands.begun) == 2)
        run.cancel()
        await eventually_so(lambda: sorted(hands.stopped) == [1, 2])
    assert run.cancelled()


async def test_a_second_stop_ends_the_grace() -> None:
    server, hands = Scripted(), Hands()
    server.streams.append(brings(1))
    async with running(server, hands.coroutine, grace=1000) as (worker, run):
        await eventually_so(lambda: hands.begun)
        worker.stop()
        # It says at once that it takes no more.
        await eventually_so(lambda: server.heartbeats and server.heartbeats[-1].last_fence > 1)
        assert not run.done()
        worker.stop()
    assert ended_as(server) == [(1, "release")]
    assert server.heartbeats[-1].held == []


async def test_a_worker_whose_session_is_another_process_s_ends() -> None:
    """And says no goodbye, which would be taken for the other's."""
    server, hands = Scripted(), Hands()
    server.streams.append(brings(1))
    server.answers.append(SessionSuperseded)
    async with running(server, hands.coroutine) as (_, run), asyncio.timeout(WITHIN_S):
        with pytest.raises(SessionSuperseded, match="another process"):
            await run
    assert ended_as(server) == [(1, "release")]
    assert len(server.heartbeats) == 1


async def test_a_worker_that_cannot_report_ends_nevertheless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(working, "FLUSH_S", 0.1)
    server, hands = Scripted(), Hands()
    server.streams.append(brings(1))
    server.refusals += [Unavailable] * 1000
    with structlog.testing.capture_logs() as logged:
        async with running(server, hands.coroutine) as (worker, run), asyncio.timeout(WITHIN_S):
            await eventually_so(lambda: hands.begun)
            worker.stop()
            await run
    assert [line["held"] for line in logged if line["event"] == "outcomes_not_reported"] == [1]


async def test_a_worker_whose_reports_are_broken_ends_with_what_broke_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(working, "FLUSH_S", 0.1)
    server, hands = Scripted(), Hands()
    server.streams.append(brings(1))
    hands.go_on.set()

    def broken(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Worker, "_answered", broken)
    async with running(server, hands.coroutine) as (_, run), asyncio.timeout(WITHIN_S):
        with pytest.raises(LookupError, match="a bug"):
            await run


@pytest.mark.parametrize(
    ("status", "completed"),
    [
        (wire.REPORT_STATUS_APPLIED, 1),
        (wire.REPORT_STATUS_ALREADY_APPLIED, 1),
        (wire.REPORT_STATUS_STALE, 0),
    ],
)
async def test_what_became_of_reports_is_counted(status: wire.ReportStatus, completed: int) -> None:
    server, hands = Scripted(), Hands()
    server.streams.append(brings(1))
    server.status = status
    hands.go_on.set()
    async with running(server, hands.coroutine) as (worker, _):
        await eventually_so(lambda: worker.completed + worker.stale)
        assert (worker.completed, worker.stale) == (completed, 1 - completed)
        assert worker.held.snapshot()[0] == []
        worker.stop()


@pytest.mark.parametrize(
    "bad", [{"slots": 0}, {"slots": 10_001}, {"grace": -1.0}, {"grace": float("nan")}]
)
def test_a_worker_checks_what_it_is_given(bad: dict[str, Any]) -> None:
    """How it showed: no slots were "max_workers must be greater than 0", and a grace below 0 was taken."""
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        Worker(App(), "127.0.0.1:1", **bad)
