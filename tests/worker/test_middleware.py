"""Middleware: the order, what it sees, what it may do."""

from __future__ import annotations

import contextvars
import threading

import pytest

from atlasqueue import AsyncClient, JobState, RetryPolicy
from atlasqueue_worker import App, JobContext, Next, Reject
from tests.plugins.server import RunningServer
from tests.waiting import eventually
from tests.worker.test_outcomes import QUEUE, client, working

__all__ = ["client"]

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")


async def test_the_first_is_the_outermost_and_all_see_job_and_outcome(
    server: RunningServer, client: AsyncClient
) -> None:
    app = App()
    seen: list[object] = []

    @app.middleware
    async def outer(job: JobContext, run: Next) -> object:
        seen.append(("outer", job.payload))
        value = await run(job)
        seen.append(("outer", value))
        return b"<" + value + b">"

    @app.middleware
    async def inner(job: JobContext, run: Next) -> object:
        seen.append("inner")
        tenant.set(job.headers["tenant"])
        return await run(job)

    @app.job("plain", queue=QUEUE)
    def plain(job: JobContext) -> bytes:
        assert threading.current_thread() is not threading.main_thread()
        return tenant.get().encode()

    @app.job("async", queue=QUEUE)
    async def coroutine(job: JobContext) -> bytes:
        return tenant.get().encode()

    async with working(server, app):
        for kind in ("plain", "async"):
            seen.clear()
            job_id = await client.enqueue(QUEUE, kind, b"in", headers={"tenant": kind})
            assert (await client.wait(job_id, timeout=30)).result == f"<{kind}>".encode()
            assert seen == [("outer", b"in"), "inner", ("outer", kind.encode())]


async def test_it_may_refuse_a_job_and_change_how_it_ends(
    server: RunningServer, client: AsyncClient
) -> None:
    app = App()

    @app.middleware
    async def judge(job: JobContext, run: Next) -> object:
        if job.payload == b"refuse":
            raise Reject("not this one")
        try:
            return await run(job)
        except ZeroDivisionError:
            return b"caught"

    @app.job("divide", queue=QUEUE)
    def divide(job: JobContext) -> float:
        return 1 / 0

    @app.job("stop", queue=QUEUE)
    def stop(job: JobContext) -> None:
        # How it showed: a future of asyncio refuses StopIteration, and the job held its slot for ever.
        next(iter(()))

    async with working(server, app) as worker:
        refused = await client.enqueue(QUEUE, "divide", b"refuse")
        caught = await client.enqueue(QUEUE, "divide")
        stopped = await client.enqueue(QUEUE, "stop", retry_policy=RetryPolicy(max_attempts=1))

        async def all_ended() -> bool:
            return worker.completed == 3

        await eventually(all_ended)
        assert (await client.get(refused)).state is JobState.DEAD
        assert (await client.get(caught)).result == b"caught"
        assert (await client.get(stopped)).state is JobState.DEAD


async def test_a_plain_handler_under_middleware_is_asked_to_stop_not_torn_off(
    server: RunningServer, client: AsyncClient
) -> None:
    app = App()
    started = threading.Event()

    @app.middleware
    async def nothing(job: JobContext, run: Next) -> object:
        return await run(job)

    @app.job("slow", queue=QUEUE)
    def slow(job: JobContext) -> bytes:
        started.set()
        job.wait_cancelled()
        return b"to its own end"

    async def has_started() -> bool:
        return started.is_set()

    async with working(server, app) as worker:
        job_id = await client.enqueue(QUEUE, "slow")
        await eventually(has_started)
        await client.cancel(job_id)

        async def ended() -> bool:
            return worker.completed == 1

        await eventually(ended)
        assert (await client.get(job_id)).result == b"to its own end"


def test_a_middleware_is_async() -> None:
    with pytest.raises(TypeError, match="async def"):
        App().middleware(lambda job, run: run(job))
