"""How handlers end, and where their jobs stand then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from atlasqueue import AsyncClient, DeadLetterReason, JobDied, JobState, QueuePolicy, RetryPolicy
from atlasqueue_worker import (
    App,
    Cancel,
    JobContext,
    LeaseState,
    Reject,
    Release,
    Retry,
    Snooze,
    Worker,
)
from tests.plugins.server import RunningServer
from tests.waiting import eventually

QUEUE = "work"
FAST = RetryPolicy(max_attempts=3, initial_backoff=timedelta(0))


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[AsyncClient]:
    """A client of the test's server."""
    async with AsyncClient(server.grpc_address, retry_for=5) as client:
        yield client


@asynccontextmanager
async def working(server: RunningServer, app: App, **options: object) -> AsyncIterator[Worker]:
    """A worker that runs meanwhile and drains at the end."""
    worker = Worker(app, server.grpc_address, grace=0.2, **options)  # type: ignore[arg-type]
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await task


def app_with(handler: Callable[[JobContext], object], kind: str = "do") -> App:
    """An app with one handler."""
    app = App()
    app.job(kind, queue=QUEUE)(handler)
    return app


@pytest.mark.parametrize(
    ("value", "result"),
    [(None, b""), (b"raw", b"raw"), ("text", b"text"), ({"a": [1]}, b'{"a":[1]}')],
)
async def test_a_returned_value_is_the_result(
    server: RunningServer, client: AsyncClient, value: object, result: bytes
) -> None:
    async with working(server, app_with(lambda job: value)):
        job = await client.wait(await client.enqueue(QUEUE, "do"), timeout=20)
    assert job.result == result


async def test_an_async_handler_sees_its_job(server: RunningServer, client: AsyncClient) -> None:
    seen: list[JobContext] = []

    async def handler(job: JobContext) -> None:
        seen.append(job)

    async with working(server, app_with(handler)):
        job_id = await client.enqueue(
            QUEUE, "do", b'{"n": 1}', headers={"a": "b"}, priority=1, deadline=timedelta(minutes=1)
        )
        await client.wait(job_id, timeout=20)
    (job,) = seen
    assert (job.job_id, job.json(), job.headers, job.priority) == (job_id, {"n": 1}, {"a": "b"}, 1)
    assert (job.attempt, job.crashes, job.deliveries) == (0, 0, 1)
    assert job.fence > 0
    assert job.time_left is not None
    assert 0 < job.time_left <= 60
    assert job.lease_state is LeaseState.CERTAIN


async def test_a_failure_is_retried_until_it_succeeds(
    server: RunningServer, client: AsyncClient
) -> None:
    def handler(job: JobContext) -> int:
        if job.attempt < 2:
            raise ValueError(f"attempt {job.attempt} fails")
        return job.attempt

    async with working(server, app_with(handler)):
        job = await client.wait(await client.enqueue(QUEUE, "do", retry_policy=FAST), timeout=20)
    assert (job.result, job.attempt, job.deliveries) == (b"2", 2, 3)
    assert [f.message for f in job.failures] == ["attempt 0 fails", "attempt 1 fails"]
    assert job.failures[0].type == "ValueError"
    assert "in handler" in job.failures[0].stack


async def test_watchers_see_each_failure_when_it_happens(
    server: RunningServer, client: AsyncClient
) -> None:
    """How it showed: only the last event of a watch had the failures that the contract promises."""
    go_on = asyncio.Event()

    async def handler(job: JobContext) -> None:
        if job.attempt == 0:
            raise ValueError("the first")
        await go_on.wait()

    async with working(server, app_with(handler)):
        job_id = await client.enqueue(QUEUE, "do", retry_policy=FAST)
        async for job in client.watch(job_id, timeout=20):
            if job.attempt:
                assert [f.message for f in job.failures] == ["the first"]
                go_on.set()


async def test_spent_attempts_make_a_dead_letter(
    server: RunningServer, client: AsyncClient
) -> None:
    def handler(job: JobContext) -> None:
        raise Retry("no luck", after=0)

    async with working(server, app_with(handler)):
        with pytest.raises(JobDied) as died:
            await client.wait(await client.enqueue(QUEUE, "do", retry_policy=FAST), timeout=20)
    assert died.value.job.dead_letter_reason is DeadLetterReason.ATTEMPTS_SPENT
    assert died.value.job.attempt == 3


@pytest.mark.parametrize("raised", [True, False])
async def test_reject_makes_a_dead_letter_at_once(
    server: RunningServer, client: AsyncClient, raised: bool
) -> None:
    def handler(job: JobContext) -> Reject:
        if raised:
            raise Reject("never")
        return Reject("never")

    async with working(server, app_with(handler)):
        with pytest.raises(JobDied) as died:
            await client.wait(await client.enqueue(QUEUE, "do"), timeout=20)
    assert died.value.job.dead_letter_reason is DeadLetterReason.REJECTED
    assert died.value.job.deliveries == 1


async def test_snooze_and_release_spend_no_attempt(
    server: RunningServer, client: AsyncClient
) -> None:
    def handler(job: JobContext) -> int:
        if job.deliveries == 1:
            raise Snooze(0)
        if job.deliveries == 2:
            raise Release
        return job.attempt

    async with working(server, app_with(handler)):
        job = await client.wait(await client.enqueue(QUEUE, "do"), timeout=20)
    assert (job.result, job.deliveries) == (b"0", 3)


async def test_a_handler_may_cancel_its_own_job(server: RunningServer, client: AsyncClient) -> None:
    def handler(job: JobContext) -> None:
        raise Cancel

    async with working(server, app_with(handler)):
        job_id = await client.enqueue(QUEUE, "do")
        states = [job.state async for job in client.watch(job_id, timeout=20)]
    assert states[-1] is JobState.CANCELLED


async def test_cancel_reaches_running_handlers(server: RunningServer, client: AsyncClient) -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def endless(job: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    def patient(job: JobContext) -> None:
        loop.call_soon_threadsafe(started.set)
        assert job.wait_cancelled(20)
        job.raise_if_cancelled()

    for handler in (endless, patient):
        started.clear()
        async with working(server, app_with(handler)):
            job_id = await client.enqueue(QUEUE, "do")
            await started.wait()
            assert await client.cancel(job_id) is JobState.LEASED
            states = [job.state async for job in client.watch(job_id, timeout=20)]
        assert states[-1] is JobState.CANCELLED


async def test_an_unknown_kind_is_set_aside(server: RunningServer, client: AsyncClient) -> None:
    async with working(server, app_with(lambda job: None, kind="other")):
        job_id = await client.enqueue(QUEUE, "do")

        async def set_aside() -> bool:
            return (await client.get(job_id)).state is JobState.SCHEDULED

        await eventually(set_aside)
    job = await client.get(job_id)
    assert (job.attempt, job.deliveries) == (0, 1)


async def test_a_result_over_the_limit_is_refused_with_its_reason(
    server: RunningServer, client: AsyncClient
) -> None:
    async with working(server, app_with(lambda job: b"x" * (256 * 1024 + 1))):
        with pytest.raises(JobDied) as died:
            await client.wait(await client.enqueue(QUEUE, "do"), timeout=20)
    assert died.value.job.failures[0].type == "ResultTooLarge"


async def test_drain_releases_what_does_not_finish(
    server: RunningServer, client: AsyncClient
) -> None:
    started = asyncio.Event()

    async def endless(job: JobContext) -> None:
        started.set()
        await asyncio.Event().wait()

    job_id = await client.enqueue(QUEUE, "do")
    async with working(server, app_with(endless)):
        await started.wait()
    job = await client.get(job_id)
    assert (job.state, job.attempt, job.crashes) == (JobState.READY, 0, 0)


async def test_a_handler_that_blocks_the_event_loop_keeps_its_lease(
    server: RunningServer, client: AsyncClient
) -> None:
    await client.queues.update_policy(QUEUE, QueuePolicy(visibility_timeout=timedelta(seconds=1)))
    # The worker has a loop of its own here, which its handler blocks for three visibility timeouts.
    done = threading.Event()

    async def block(job: JobContext) -> str:
        threading.Event().wait(3)
        return job.lease_state.value

    def work() -> None:
        async def run() -> None:
            worker = Worker(app_with(block), server.grpc_address, grace=0)
            task = asyncio.create_task(worker.run())
            while not done.is_set():
                await asyncio.sleep(0.05)
            worker.stop()
            await task

        asyncio.run(run())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        job = await client.wait(await client.enqueue(QUEUE, "do"), timeout=30)
    finally:
        done.set()
        await asyncio.to_thread(thread.join)
    assert (job.result, job.crashes, job.deliveries) == (b"certain", 0, 1)


async def test_checkpoint_and_progress_travel_with_heartbeats(
    server: RunningServer, client: AsyncClient
) -> None:
    await client.queues.update_policy(QUEUE, QueuePolicy(visibility_timeout=timedelta(seconds=1)))
    go_on = asyncio.Event()

    async def handler(job: JobContext) -> bytes:
        if job.deliveries == 1:
            job.set_progress(40, "halfway")
            job.save_checkpoint(b"page 7")
            await go_on.wait()
            raise Retry(after=0)
        return job.checkpoint or b"none"

    async with working(server, app_with(handler)):
        job_id = await client.enqueue(QUEUE, "do")

        async def told() -> bool:
            job = await client.get(job_id)
            return (job.percent, job.note, job.checkpoint) == (40, "halfway", b"page 7")

        await eventually(told)
        go_on.set()
        job = await client.wait(job_id, timeout=20)
    assert job.result == b"page 7"


async def test_a_worker_whose_run_is_cancelled_ends(
    server: RunningServer, client: AsyncClient
) -> None:
    """How it showed: a task group that was cancelled waited for ever, for the stream had not been told."""
    worker = Worker(app_with(lambda job: None), server.grpc_address, grace=0)
    task = asyncio.create_task(worker.run())

    async def healthy() -> bool:
        return worker.healthy

    await eventually(healthy)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=20)
    assert done == {task}
    assert task.cancelled()
    assert not worker.healthy
