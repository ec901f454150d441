"""What handlers do wrong stays theirs: the worker, its other jobs and its leases live on."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import NoReturn

import pytest

from atlasqueue import AsyncClient, InvalidField, JobState, NewJob, QueuePolicy, RetryPolicy
from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker import App, Cancel, JobContext, Retry, Snooze, Worker
from atlasqueue_worker.held import TOLD_BYTES_MAX, Held
from atlasqueue_worker.outcomes import ERROR_STACK_BYTES_MAX, completed, job_error
from tests.plugins.server import RunningServer
from tests.waiting import eventually
from tests.worker.test_outcomes import QUEUE, app_with, client, working

__all__ = ["client"]

TWICE = RetryPolicy(max_attempts=20, initial_backoff=timedelta(0))


class Unspeakable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def stop_iteration(job: JobContext) -> None:
    """How it showed: a plain handler that raised StopIteration held its slot for ever."""
    next(iter(()))


class TimeIsUp(BaseException):
    """As of gevent and func_timeout, whose timeouts are no Exception."""


def base_exception(job: JobContext) -> None:
    """How it showed: nobody heard of it; the worker held the job and its slot for as long as it lived."""
    raise TimeIsUp


async def async_base_exception(job: JobContext) -> None:
    """How it showed: as above."""
    raise TimeIsUp


def nested_too_deep(job: JobContext) -> object:
    """How it showed: as above, for a result that JSON gives up on."""
    value: list[object] = []
    for _ in range(3_000):
        value = [value]
    return value


def system_exit(job: JobContext) -> None:
    """How it showed: it ended the worker, with all that it held."""
    sys.exit("enough")


async def cancelled_within(_job: JobContext) -> None:
    """How it showed: a handler that awaited a task of its own which was cancelled cancelled its job for good."""
    inner = asyncio.ensure_future(asyncio.sleep(60))
    inner.cancel()
    await inner


async def async_system_exit(job: JobContext) -> None:
    """How it showed: as above."""
    sys.exit(3)


def unspeakable(job: JobContext) -> None:
    """How it showed: the job was never reported, and held its slot for ever."""
    raise Unspeakable


class LastWords(Exception):
    """An exception whose text ends the process."""

    def __str__(self) -> str:
        sys.exit("enough")


class Leaving(dict[str, int]):
    """A value that cannot be looked at either."""

    def items(self) -> NoReturn:  # type: ignore[override]
        sys.exit("enough")


def exit_when_asked(job: JobContext) -> None:
    """How it showed: it ended the worker, with all that it held, and after three of them the job was dead."""
    raise LastWords


def exit_when_encoded(job: JobContext) -> object:
    """How it showed: as above."""
    return Leaving(a=1)


def exit_unspeakably(job: JobContext) -> None:
    """How it showed: the job was never reported, and held its slot for ever."""
    sys.exit(Unspeakable())


def snooze_into_the_past(job: JobContext) -> None:
    """How it showed: the server refused the whole batch of reports, again and again."""
    raise Snooze(-1)


def retry_in_a_century(job: JobContext) -> None:
    """How it showed: as above."""
    raise Retry(after=timedelta(days=36500))


@pytest.mark.parametrize(
    ("handler", "type_"),
    [
        (stop_iteration, "StopIteration"),
        (system_exit, "RuntimeError"),
        (async_system_exit, "RuntimeError"),
        (base_exception, "TimeIsUp"),
        (async_base_exception, "TimeIsUp"),
        (nested_too_deep, "RecursionError"),
        (cancelled_within, "RuntimeError"),
        (unspeakable, "Unspeakable"),
        (exit_when_asked, "LastWords"),
        (exit_when_encoded, "SystemExit"),
        (exit_unspeakably, "RuntimeError"),
        (snooze_into_the_past, "ValueError"),
        (retry_in_a_century, "ValueError"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_it_is_a_failed_attempt(
    server: RunningServer,
    client: AsyncClient,
    handler: Callable[[JobContext], object],
    type_: str,
) -> None:
    async with working(server, app_with(handler), slots=1):
        policy = RetryPolicy(max_attempts=1)
        bad = await client.enqueue(QUEUE, "do", retry_policy=policy)

        async def died() -> bool:
            return (await client.get(bad)).state is JobState.DEAD

        await eventually(died)
        assert (await client.get(bad)).failures[0].type.rpartition(".")[2] == type_
        # The slot is free and the worker lives.
        again = await client.enqueue(QUEUE, "do", retry_policy=policy)

        async def died_too() -> bool:
            return (await client.get(again)).state is JobState.DEAD

        await eventually(died_too)


@pytest.mark.parametrize("value", [float("nan"), {"loss": [float("-inf")]}])
def test_a_result_that_is_no_json_is_refused(value: object) -> None:
    """How it showed: the result was NaN, at which a reader in Go failed."""
    outcome = completed(worker_service_pb2.JobOutcome(), value)
    assert outcome.reject.error.type == "ValueError"


def test_of_a_long_stack_the_end_is_kept() -> None:
    """That is where it was raised. How it showed: it was cut off with letters that take two bytes and more."""

    def deeper(levels: int) -> None:
        # In turns, or Python would say that a line repeats.
        if levels % 2:
            deeper(levels - 1)
        elif levels:
            deeper(levels - 1)
        else:
            raise LookupError("ж" * 1000 + "at the bottom")

    with pytest.raises(LookupError) as raised:
        deeper(300)
    stack = job_error(raised.value).stack
    assert ERROR_STACK_BYTES_MAX - 2 < len(stack.encode()) <= ERROR_STACK_BYTES_MAX
    assert stack.endswith("жat the bottom\n")


async def test_an_outcome_that_the_server_refuses_takes_no_other_with_it(
    server: RunningServer, client: AsyncClient
) -> None:
    """How it showed: one delay out of bounds, and the outcomes of 999 other jobs were dropped."""

    def handler(job: JobContext) -> object:
        if job.payload == b"bad":
            # Past the worker's own check, as a newer server's bound would be.
            snooze = Snooze(0)
            snooze.delay = timedelta(seconds=-5)
            raise snooze
        return "done"

    jobs = [NewJob(QUEUE, "do", b"bad" if n == 7 else b"good") for n in range(20)]
    jobs[7] = NewJob(QUEUE, "do", b"bad", retry_policy=RetryPolicy(max_attempts=1))
    job_ids = await client.enqueue_many(jobs)
    async with working(server, app_with(handler), slots=20):

        async def settled() -> bool:
            return all([(await client.get(job_id)).settled for job_id in job_ids])

        await eventually(settled)
    found = [await client.get(job_id) for job_id in job_ids]
    assert {job.deliveries for job in found} == {1}
    bad = found.pop(7)
    assert (bad.state, bad.failures[0].type) == (JobState.DEAD, "OutcomeRefused")
    assert "snooze.delay" in bad.failures[0].message
    assert {job.state for job in found} == {JobState.SUCCEEDED}


@pytest.mark.parametrize("returned", [False, True])
async def test_drain_does_not_cancel_jobs(
    server: RunningServer, client: AsyncClient, returned: bool
) -> None:
    """How it showed: raise_if_cancelled during a drain made the job cancelled for good."""
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def handler(job: JobContext) -> object:
        loop.call_soon_threadsafe(started.set)
        assert job.wait_cancelled(20)
        if returned:
            return Cancel("asked to stop")
        job.raise_if_cancelled()
        return None

    job_id = await client.enqueue(QUEUE, "do")
    async with working(server, app_with(handler)):
        await started.wait()
    job = await client.get(job_id)
    assert (job.state, job.attempt, job.crashes) == (JobState.READY, 0, 0)


async def test_what_handlers_tell_cannot_stop_the_heartbeats(
    server: RunningServer, client: AsyncClient
) -> None:
    """How it showed: a note with a NUL was refused with every heartbeat, until the session was lost."""
    await client.queues.update_policy(QUEUE, QueuePolicy(visibility_timeout=timedelta(seconds=1)))
    done = threading.Event()

    def handler(job: JobContext) -> str:
        job.set_progress(50, "a\0b \ud800 " + "é" * 2000)
        done.wait(3)
        return job.lease_state.value

    async with working(server, app_with(handler)):
        job_id = await client.enqueue(QUEUE, "do")
        job = await client.wait(job_id, timeout=20)
    assert (job.result, job.deliveries) == (b"certain", 1)
    assert job.percent == 50
    assert job.note is not None
    assert job.note.startswith("a\ufffdb")


def _context(fence: int) -> JobContext:
    return JobContext(worker_service_pb2.LeasedJob(queue="q" * 128, job_id="i" * 36, fence=fence))


def test_a_heartbeat_fits_into_a_message_whatever_was_told() -> None:
    """How it showed: 100 checkpoints of 64 KiB made heartbeats of 6 MiB, all refused, and the session was lost."""
    held = Held()
    jobs = [_context(fence) for fence in range(1, 10_001)]
    held.add(jobs)
    for job in jobs[:100]:
        job.save_checkpoint(b"x" * 65_536)
    told: list[int] = []
    rounds = 0
    more = True
    while more:
        listed, told_now, more = held.to_proto(jobs)
        request = worker_service_pb2.HeartbeatRequest(held=listed)
        assert len(listed) == 10_000
        assert request.ByteSize() < 4 * 1024 * 1024
        told += told_now
        rounds += 1
    assert sorted(told) == list(range(1, 101))
    assert rounds == -(-100 * 65_536 // TOLD_BYTES_MAX)


@pytest.mark.parametrize("how", ["raise", "snooze", "drain"])
async def test_a_checkpoint_saved_at_the_end_reaches_the_next_run(
    server: RunningServer, client: AsyncClient, how: str
) -> None:
    """How it showed: told between two heartbeats, it was dropped with the report of the attempt."""
    saved = asyncio.Event()

    async def handler(job: JobContext) -> bytes:
        if job.deliveries > 1:
            return job.checkpoint or b"none"
        try:
            if how == "drain":
                saved.set()
                await job.cancellation()
                await asyncio.sleep(10)
        finally:
            job.save_checkpoint(b"page 7")
        if how == "snooze":
            raise Snooze(0)
        raise ValueError("no luck")

    app = app_with(handler)
    job_id = await client.enqueue(QUEUE, "do", retry_policy=TWICE)
    async with working(server, app):
        if how == "drain":
            await saved.wait()
        else:
            assert (await client.wait(job_id, timeout=20)).result == b"page 7"
    if how == "drain":
        async with working(server, app):
            assert (await client.wait(job_id, timeout=20)).result == b"page 7"


@pytest.mark.parametrize("options", [{"queues": ["bad queue"]}, {"name": "bad name"}])
async def test_terms_that_the_server_refuses_end_the_worker(
    server: RunningServer, options: dict[str, object]
) -> None:
    """How it showed: it asked again and again, with a warning each time."""
    worker = Worker(app_with(lambda job: None), server.grpc_address, **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match="must match"):
        await asyncio.wait_for(worker.run(), 20)


def test_a_kind_or_queue_that_no_job_can_have_is_refused_at_once() -> None:
    for kind, queue in (("bad kind", "q"), ("", "q"), ("k", "é")):
        with pytest.raises(ValueError, match="must match"):
            App().job(kind, queue=queue)


def test_what_cannot_be_a_handler_is_refused_when_it_is_registered() -> None:
    """How it showed: `@app.job` without a kind ended in a TypeError about strings or bytes, and each job of a handler
    without parameters failed twenty times."""
    app = App()
    with pytest.raises(TypeError, match=r'registered with its kind: @app\.job\("resize"\)'):
        app.job(lambda job: None)  # type: ignore[arg-type]
    for refused in (lambda: None, lambda job, more: None, lambda *, job: None):
        with pytest.raises(TypeError, match="kind 'x' must take the job"):
            app.job("x")(refused)
    assert not app.registrations
    for number, sound in enumerate((lambda *all_of_them: None, lambda job, more=1: None, print)):
        app.job(f"sound-{number}")(sound)
