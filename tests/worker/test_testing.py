"""The helpers for users' tests tell what a worker would have reported."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta

import pytest

from atlasqueue_worker import App, Cancel, JobContext, Next, Reject, Release, Retry, Snooze
from atlasqueue_worker.testing import fake_job, run_job, run_job_async
from tests.worker.isolated_app import app as isolated

app = App()


@app.job("work")
def work(job: JobContext) -> object:
    """Ends as the payload says."""
    match job.payload:
        case b"checkpoint":
            job.set_progress(150, "more than all")
            job.save_checkpoint(b"one")
            job.save_checkpoint(b"two")
        case b"raise":
            raise KeyError("missing")
        case b"retry":
            raise Retry("later", after=7)
        case b"reject":
            raise Reject("never")
        case b"snooze":
            raise Snooze(60)
        case b"release":
            raise Release()
        case b"exit":
            raise SystemExit(3)
        case b"listen":
            job.raise_if_cancelled()
        case b"give up":
            raise Cancel()
    return {"attempt": job.attempt, "left": job.time_left, "from": (job.checkpoint or b"").decode()}


@app.job("wait")
async def wait(job: JobContext) -> None:
    """Until it is cancelled."""
    job.set_progress(1)
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("payload", "outcome", "error", "delay"),
    [
        (b"raise", "fail", "KeyError", None),
        (b"exit", "fail", "RuntimeError", None),
        (b"retry", "fail", "atlasqueue_worker.outcomes.Retry", 7),
        (b"reject", "reject", "atlasqueue_worker.outcomes.Reject", None),
        (b"snooze", "snooze", "", 60),
        (b"release", "release", "", None),
    ],
)
def test_an_outcome_is_told(payload: bytes, outcome: str, error: str, delay: int | None) -> None:
    ended = run_job(app, fake_job("work", payload))
    assert (ended.outcome, ended.error_type) == (outcome, error)
    assert ended.delay == (None if delay is None else timedelta(seconds=delay))


def test_result_checkpoints_and_progress_are_told() -> None:
    job = fake_job("work", b"checkpoint", attempt=2, checkpoint=b"zero")
    ended = run_job(app, job)
    assert ended.outcome == "complete"
    assert ended.result == b'{"attempt":2,"left":null,"from":"zero"}'
    assert job.checkpoints == [b"one", b"two"]
    assert job.progress == [(100, "more than all")]
    assert run_job(app, fake_job("work", time_left=60)).result.startswith(b'{"attempt":0,"left":')


async def test_a_cancel_reaches_the_handler() -> None:
    job = fake_job("wait")
    running = asyncio.create_task(run_job_async(app, job))
    while not job.progress:
        await asyncio.sleep(0)
    job.cancel()
    assert (await running).outcome == "cancel"
    before = fake_job("work", b"listen")
    before.cancel()
    assert (await run_job_async(app, before)).outcome == "cancel"


async def test_a_drain_releases_the_job() -> None:
    """How it showed: `run_job` told of a cancel where a worker that drains reports a release."""
    waiting = fake_job("wait")
    running = asyncio.create_task(run_job_async(app, waiting))
    while not waiting.progress:
        await asyncio.sleep(0)
    waiting.drain()
    assert (await running).outcome == "release"
    for payload in (b"listen", b"give up"):
        job = fake_job("work", payload)
        job.drain()
        assert (await run_job_async(app, job)).outcome == "release"


def test_middleware_takes_part() -> None:
    around = App()
    around.job("work")(work)

    @around.middleware
    async def caught(job: JobContext, run: Next) -> object:
        try:
            return await run(job)
        except KeyError:
            return b"caught"

    assert run_job(around, fake_job("work", b"raise")).result == b"caught"


def test_a_subprocess_is_one_only_when_asked_for() -> None:
    mine = f'"pid":{os.getpid()}'.encode()
    assert mine in run_job(isolated, fake_job("echo")).result
    ended = run_job(isolated, fake_job("echo"), in_subprocess=True)
    assert ended.outcome == "complete"
    assert mine not in ended.result


class Resizer:
    """A handler with a state."""

    async def __call__(self, job: JobContext) -> bytes:
        """Half of it."""
        await asyncio.sleep(0)
        return job.payload[:2]


def test_an_async_object_is_an_async_handler() -> None:
    """How it showed: each of its jobs was a dead letter: of type coroutine, which is not JSON serializable."""
    resizing = App()
    resizing.job("resize")(Resizer())
    assert run_job(resizing, fake_job("resize", b"four")).result == b"fo"


def test_a_decorator_that_awaits_nothing_is_named() -> None:
    """How it showed: as above."""
    resizing = App()
    resizing.job("resize")(lambda job: Resizer()(job))
    ended = run_job(resizing, fake_job("resize"))
    assert ended.outcome == "reject"
    assert "returned a coroutine, which nobody awaits" in ended.error_message


def test_an_unknown_kind_is_said() -> None:
    with pytest.raises(LookupError, match="it has: wait, work"):
        run_job(app, fake_job("wrok"))
