"""The executor alone, on jobs without a server: each ends once, runs only while it may, and leaves nothing to the next."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import structlog

from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue_worker import App, Cancel, JobContext, LeaseState, Middleware, Next, executor
from atlasqueue_worker.executor import Executor
from atlasqueue_worker.outcomes import verb_of
from atlasqueue_worker.testing import fake_job
from tests.waiting import eventually_so

WITHIN_S = 20.0
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


class Ran:
    """An executor, and what it reported: (fence, outcome), in order."""

    def __init__(
        self,
        handler: Callable[[JobContext], object],
        slots: int,
        tell: Callable[[], Awaitable[None]] | None = None,
        middleware: Middleware | None = None,
    ) -> None:
        self.reported: list[tuple[int, str]] = []
        self.errors: list[str] = []
        app = App()
        app.job("do")(handler)
        if middleware is not None:
            app.middleware(middleware)
        self.executor = Executor(app, slots, self._report, tell or _told)

    def _report(self, job: JobContext, outcome: wire.JobOutcome | None) -> None:
        self.reported.append((job.fence, verb_of(outcome)))
        self.errors.append(outcome.fail.error.type)

    async def ends(self, *jobs: JobContext) -> list[tuple[int, str]]:
        """Runs the jobs; what was reported by then, once all have ended."""
        before = len(self.reported)
        self.executor.start(list(jobs))
        await eventually_so(lambda: len(self.reported) - before == len(jobs))
        return self.reported[before:]


async def _told() -> None: ...


async def passed_on(job: JobContext, run: Next) -> object:
    """A middleware that does nothing."""
    return await run(job)


@asynccontextmanager
async def ran(
    handler: Callable[[JobContext], object],
    slots: int = 10,
    tell: Callable[[], Awaitable[None]] | None = None,
    middleware: Middleware | None = None,
) -> AsyncIterator[Ran]:
    """An executor that is drained at the end."""
    made = Ran(handler, slots, tell, middleware)
    yield made
    async with asyncio.timeout(WITHIN_S):
        await made.executor.drain(0)


def job(fence: int = 1) -> JobContext:
    """A job, as it came from a server."""
    return JobContext(wire.LeasedJob(queue="q", job_id=f"j{fence}", fence=fence, kind="do"))


def lose(lost: JobContext) -> None:
    """As the heartbeats do, when a lease is another worker's."""
    lost.lease_state = LeaseState.LOST
    lost.cancel()


async def test_a_job_that_was_cancelled_before_it_began_is_not_run() -> None:
    first, cancelled, lost = job(1), job(2), job(3)
    begun: list[int] = []

    async def handler(job: JobContext) -> None:
        begun.append(job.fence)
        cancelled.cancel()
        lose(lost)

    async with ran(handler) as worker:
        worker.executor.start([first, cancelled, lost])
        await eventually_so(lambda: not worker.executor.running)
        assert worker.reported == [(1, "complete"), (2, "cancel")]
        assert begun == [1]


async def test_a_plain_job_that_was_cancelled_before_it_began_is_not_run() -> None:
    """How it showed: behind handlers that went on in their threads after their leases were lost, it waited, was lost
    as well, and then ran beside the other worker that had it by then."""
    go_on = threading.Event()
    begun: list[int] = []

    def handler(job: JobContext) -> None:
        begun.append(job.fence)
        go_on.wait(WITHIN_S)

    async with ran(handler, slots=1) as worker:
        jobs = [job(fence) for fence in (1, 2, 3, 4)]
        worker.executor.start(jobs)
        await eventually_so(lambda: begun)
        jobs[1].cancel()
        lose(jobs[2])
        go_on.set()
        await eventually_so(lambda: not worker.executor.running)
        assert worker.reported == [(1, "complete"), (2, "cancel"), (4, "complete")]
        assert begun == [1, 4]


async def test_a_plain_job_under_middleware_that_was_lost_before_it_began_is_not_run() -> None:
    """How it showed: as above."""
    go_on = threading.Event()
    begun: list[int] = []

    def handler(job: JobContext) -> None:
        begun.append(job.fence)
        go_on.wait(WITHIN_S)

    async with ran(handler, slots=1, middleware=passed_on) as worker:
        jobs = [job(1), job(2)]
        worker.executor.start(jobs)
        await eventually_so(lambda: begun)
        lose(jobs[1])
        go_on.set()
        await eventually_so(lambda: not worker.executor.running)
        assert (worker.reported, begun) == ([(1, "complete")], [1])


async def test_the_outcome_of_a_lost_lease_is_not_reported() -> None:
    go_on = asyncio.Event()

    async def handler(job: JobContext) -> None:
        if job.fence == 1:
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                return

    async with ran(handler) as worker:
        lost = job(1)
        worker.executor.start([lost])
        await asyncio.sleep(0)
        lose(lost)
        await eventually_so(lambda: not worker.executor.running)
        assert await worker.ends(job(2)) == [(2, "complete")]


@pytest.mark.parametrize("plain", [False, True])
async def test_a_handler_sees_no_context_variable_of_another_job(plain: bool) -> None:
    seen: list[str] = []

    def note(_job: JobContext) -> None:
        seen.append(tenant.get())
        tenant.set("somebody")

    async def coroutine(job: JobContext) -> None:
        note(job)

    tenant.set("the worker's")
    async with ran(note if plain else coroutine, slots=1) as worker:
        tenant.set("set later")
        await worker.ends(job(1), job(2), job(3))
        await worker.ends(job(4))
    assert seen == ["the worker's"] * 4


async def test_as_many_handlers_as_there_are_slots_wait_beside_each_other() -> None:
    all_there = asyncio.Event()
    there: set[int] = set()

    async def handler(job: JobContext) -> None:
        there.add(job.fence)
        if len(there) == 100:
            all_there.set()
        await all_there.wait()

    async with ran(handler, slots=100) as worker, asyncio.timeout(WITHIN_S):
        await worker.ends(*[job(fence) for fence in range(1, 101)])


async def test_handlers_that_never_wait_let_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor, "TURN_S", -1.0)
    turns = 0
    seen: list[int] = []

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def handler(_job: JobContext) -> None:
        seen.append(turns)

    beside = asyncio.create_task(other())
    async with ran(handler) as worker:
        await worker.ends(*[job(fence) for fence in range(1, 50)])
    beside.cancel()
    assert seen[0] < seen[-1]


@pytest.mark.parametrize("swallowed", [False, True])
async def test_a_cancel_is_over_with_its_job(swallowed: bool) -> None:
    """How it showed: a handler that cancelled its own task ended the next job of its runner, at its first await."""
    seen: list[int] = []

    async def handler(job: JobContext) -> None:
        task = asyncio.current_task()
        assert task is not None
        if job.fence == 1:
            task.cancel()
            if swallowed:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            # Now, so that no other runner takes it before this one is free.
            worker.executor.start([following])
        else:
            seen.append(task.cancelling())
            await asyncio.sleep(0)

    following = job(2)
    async with ran(handler) as worker:
        worker.executor.start([job(1)])
        await eventually_so(lambda: worker.reported == [(1, "complete"), (2, "complete")])
    assert seen == [0]


async def test_a_cancel_that_comes_too_late_hits_no_other_job() -> None:
    first = job(1)

    async def handler(job: JobContext) -> None:
        if job.fence == 2:
            first.cancel()
            for _ in range(3):
                await asyncio.sleep(0)

    async with ran(handler, slots=1) as worker:
        assert await worker.ends(first, job(2)) == [(1, "complete"), (2, "complete")]
        assert await worker.ends(job(3)) == [(3, "complete")]


async def test_a_cancel_that_comes_between_two_jobs_ends_no_runner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor, "TURN_S", -1.0)
    first = job(1)

    async def handler(job: JobContext) -> None:
        if job.fence == 1:
            # Comes when the runner gives others their turn.
            first.cancel()

    async with ran(handler, slots=1) as worker:
        assert await worker.ends(first, job(2)) == [(1, "complete"), (2, "complete")]


async def test_a_generator_exit_is_a_failed_attempt() -> None:
    """How it showed: taken for the end of the runner, it left the job and its slot held for ever."""

    async def handler(_job: JobContext) -> None:
        raise GeneratorExit

    async with ran(handler, slots=1) as worker:
        assert await worker.ends(job(1), job(2)) == [(1, "fail"), (2, "fail")]
        assert worker.errors == ["GeneratorExit"] * 2


@pytest.mark.parametrize("dressed", [False, True])
async def test_an_interrupt_in_a_thread_is_a_failed_attempt(dressed: bool) -> None:
    """How it showed: with a middleware around the handler, it ended the worker."""

    def handler(_job: JobContext) -> None:
        raise KeyboardInterrupt

    async with ran(handler, slots=1, middleware=passed_on if dressed else None) as worker:
        assert await worker.ends(job(1), job(2)) == [(1, "fail"), (2, "fail")]
        assert worker.errors == ["RuntimeError"] * 2


def test_an_interrupt_in_the_loop_ends_the_worker_and_says_where() -> None:
    """How it showed: the worker ended with exit code 130 and not a word."""

    async def handler(_job: JobContext) -> None:
        raise KeyboardInterrupt

    async def run() -> None:
        await Ran(handler, 1).ends(job(1))

    with structlog.testing.capture_logs() as logged, pytest.raises(KeyboardInterrupt):
        asyncio.run(run())
    assert {"event": "interrupted_in_handler", "job": "j1", "kind": "do"}.items() <= logged[
        0
    ].items()


def test_what_is_left_of_a_loop_that_has_ended_reports_nothing() -> None:
    """The coroutines of its runners are closed then, which is no handler's failure."""
    reported: list[object] = []
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        async def handler(_job: JobContext) -> None:
            await asyncio.Event().wait()

        worker = Ran(handler, 1)
        worker.executor.start([job(1)])
        await asyncio.sleep(0)
        reported.append(worker.reported)

    loop.run_until_complete(begin())
    loop.close()
    gc.collect()
    assert reported == [[]]


async def test_a_drain_lets_handlers_finish_within_the_grace() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(_job: JobContext) -> None:
        begun.set()
        await go_on.wait()

    async with ran(handler) as worker:
        worker.executor.start([job(1)])
        await begun.wait()
        drain = asyncio.create_task(worker.executor.drain(WITHIN_S))
        await asyncio.sleep(0)
        go_on.set()
        await drain
        assert worker.reported == [(1, "complete")]


def returns_a_result(_job: JobContext) -> object:
    """Half of the work is worth keeping."""
    return b"half of it"


def fails(_job: JobContext) -> object:
    """An attempt is spent, as ever."""
    raise LookupError


def gives_up(job: JobContext) -> object:
    """The job is the next worker's."""
    job.raise_if_cancelled()


def cancels(_job: JobContext) -> object:
    """Means that it was asked to stop; nobody has cancelled the job."""
    return Cancel("asked to stop")


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (returns_a_result, "complete"),
        (fails, "fail"),
        (gives_up, "release"),
        (cancels, "release"),
    ],
)
async def test_who_is_asked_to_stop_by_a_drain_ends_as_it_likes(
    ending: Callable[[JobContext], object], outcome: str
) -> None:
    begun = threading.Event()

    def handler(job: JobContext) -> object:
        begun.set()
        assert job.wait_cancelled(WITHIN_S)
        return ending(job)

    async with ran(handler) as worker:
        worker.executor.start([job(1)])
        await eventually_so(begun.is_set)
        await worker.executor.drain(0)
        assert worker.reported == [(1, outcome)]


async def test_what_a_thread_says_after_the_drain_is_not_reported_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does a job begin that waited for the thread."""
    monkeypatch.setattr(executor, "STOP_WAIT_S", 0.01)
    begun: list[int] = []
    go_on, ended = threading.Event(), threading.Event()

    def handler(job: JobContext) -> None:
        begun.append(job.fence)
        go_on.wait(WITHIN_S)
        ended.set()

    async with ran(handler, slots=1) as worker:
        worker.executor.start([job(1), job(2)])
        await eventually_so(lambda: begun)
        await worker.executor.drain(0)
        assert sorted(worker.reported) == [(1, "release"), (2, "release")]
        assert not ended.is_set(), "it waits for no thread"
        go_on.set()
        await eventually_so(ended.is_set)
        for thread in worker.executor._threads._threads:
            await asyncio.to_thread(thread.join, WITHIN_S)
        # What it said is in the loop by now.
        await asyncio.sleep(0)
        assert len(worker.reported) == 2
        assert begun == [1]


async def test_a_coroutine_that_does_not_listen_is_released_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor, "STOP_WAIT_S", 0.01)
    begun = asyncio.Event()

    async def handler(_job: JobContext) -> None:
        begun.set()
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async with ran(handler) as worker:
        worker.executor.start([job(1)])
        await begun.wait()
        await worker.executor.drain(0)
        # Told for the second time, at the end of the drain, it ends.
        await eventually_so(lambda: not worker.executor._runners)
        assert worker.reported == [(1, "release")]


@pytest.mark.parametrize("plain", [False, True])
async def test_a_drain_waits_for_no_checkpoint_that_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    """How it showed: the job of a thread that ran on was not released, and counted a crash when the session was over."""
    monkeypatch.setattr(executor, "STOP_WAIT_S", 0.01)
    telling: list[None] = []
    begun, go_on = threading.Event(), threading.Event()

    async def for_ever() -> None:
        telling.append(None)
        await asyncio.Event().wait()

    def runs_on(job: JobContext) -> None:
        job.save_checkpoint(b"page 7")
        begun.set()
        go_on.wait(WITHIN_S)

    async def fails(job: JobContext) -> None:
        job.save_checkpoint(b"page 7")
        begun.set()
        raise LookupError

    async with ran(runs_on if plain else fails, tell=for_ever) as worker:
        worker.executor.start([job(1)])
        await eventually_so(begun.is_set)
        await eventually_so(lambda: plain or telling)
        assert not worker.reported
        with structlog.testing.capture_logs() as logged:
            await worker.executor.drain(0)
        go_on.set()
        assert worker.reported == [(1, "release" if plain else "fail")]
        assert [line["event"] for line in logged] == ["released_while_running"] * plain


async def test_a_checkpoint_is_told_before_the_report_of_what_runs_again_alone() -> None:
    may_go = asyncio.Event()

    async def told() -> None:
        await may_go.wait()

    async def handler(job: JobContext) -> None:
        job.save_checkpoint(b"page 7")
        if job.fence == 1:
            raise LookupError

    async with ran(handler, tell=told) as worker:
        assert await worker.ends(job(2)) == [(2, "complete")]
        worker.executor.start([job(1)])
        await eventually_so(lambda: worker.executor._telling)
        assert worker.reported == [(2, "complete")]
        may_go.set()
        await eventually_so(lambda: worker.reported[1:] == [(1, "fail")])


async def test_a_fake_job_is_enough_for_an_executor() -> None:
    async with ran(lambda job: None) as worker:
        assert await worker.ends(fake_job("do", fence=7)) == [(7, "complete")]
        assert await worker.ends(fake_job("else", fence=8)) == [(8, "unknown_kind")]
