"""Jobs in subprocesses: what crashes there is the job's failure, and nothing outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from atlasqueue import AsyncClient, FailureCause, JobCancelled, JobState, RetryPolicy
from atlasqueue_worker import App, LeaseState, Worker, isolated
from atlasqueue_worker.testing import fake_job, run_job_async
from tests.plugins.processes import Processes
from tests.plugins.server import RunningServer
from tests.waiting import eventually
from tests.worker.isolated_app import QUEUE, app
from tests.worker.test_outcomes import client, working

__all__ = ["client"]

ONCE = RetryPolicy(max_attempts=1)


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie whose parent is elsewhere has."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return True


async def soon(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; starting Python may take its time."""

    async def holds() -> bool:
        return condition()

    await eventually(holds, within_s=60)


async def test_a_handler_in_a_subprocess_sees_its_job(
    server: RunningServer, client: AsyncClient
) -> None:
    async with working(server, app):
        job_id = await client.enqueue(
            QUEUE, "echo", "grüße".encode(), headers={"a": "b"}, deadline=timedelta(minutes=1)
        )
        other = await client.enqueue(QUEUE, "async-echo", b"too")
        job = await client.wait(job_id, timeout=60)
        saw = job.json()
        assert (await client.wait(other, timeout=60)).result == b"too"
    assert saw["pid"] != os.getpid()
    assert saw["fence"] == job.fence
    assert 0 < saw["time_left"] <= 60
    assert saw["payload"] == "grüße"
    assert saw["headers"] == {"a": "b"}


DEATHS = {
    b"segfault": ("HandlerDied", "killed by SIGSEGV"),
    b"exit": ("HandlerDied", "exit code 7 and no outcome"),
    b"kill": ("HandlerDied", "memory runs out"),
    b"sys.exit": ("RuntimeError", "raised SystemExit: enough"),
    b"interrupt": ("RuntimeError", "raised KeyboardInterrupt"),
    b"raise": ("KeyError", "no such thing"),
    # How it showed: it was taken for the end of the worker, and told as a handler that died.
    b"eof": ("EOFError", "the file ends"),
}
OUTCOMES = {
    b"retry": (JobState.SCHEDULED, 1),
    b"reject": (JobState.DEAD, 1),
    b"snooze": (JobState.SCHEDULED, 0),
}


async def test_however_it_ends_is_told_and_only_of_its_job(
    server: RunningServer, client: AsyncClient
) -> None:
    async with working(server, app, slots=2) as worker:
        deaths = {how: await client.enqueue(QUEUE, "end", how, retry_policy=ONCE) for how in DEATHS}
        outcomes = {how: await client.enqueue(QUEUE, "end", how) for how in OUTCOMES}
        await soon(lambda: worker.completed == len(DEATHS) + len(OUTCOMES))
        for how, (state, attempt) in OUTCOMES.items():
            job = await client.get(outcomes[how])
            assert (job.state, job.attempt) == (state, attempt), how
        for how, (type_, says) in DEATHS.items():
            job = await client.get(deaths[how])
            (failure,) = job.failures
            assert job.state is JobState.DEAD
            assert (failure.cause, failure.type) == (FailureCause.FAILED, type_)
            assert says in failure.message
            assert job.crashes == 0
            if how == b"segfault":
                assert "in end" in failure.stack, "the stack of the crash is told"


async def test_a_checkpoint_survives_the_crash_of_its_handler(
    server: RunningServer, client: AsyncClient
) -> None:
    policy = RetryPolicy(max_attempts=2, initial_backoff=timedelta(0))
    async with working(server, app):
        job_id = await client.enqueue(QUEUE, "checkpoint-then-die", retry_policy=policy)
        job = await client.wait(job_id, timeout=60)
    assert job.result == b"went on from four"
    assert (job.percent, job.note) == (40, "at four")


@pytest.mark.parametrize("why", ["cancel", "deadline", "drain"])
async def test_a_deaf_handler_and_its_programs_are_killed(
    server: RunningServer,
    client: AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    why: str,
) -> None:
    if why == "drain":
        # A worker that drains has no time for it.
        patient = replace(app.registrations["deaf"], kill_after=1000)
        monkeypatch.setitem(app.registrations, "deaf", patient)
    deadline = timedelta(seconds=4) if why == "deadline" else None
    worker = Worker(app, server.grpc_address, grace=0)
    running = asyncio.create_task(worker.run())
    job_id = await client.enqueue(
        QUEUE, "deaf", str(tmp_path).encode(), deadline=deadline, retry_policy=ONCE
    )
    await soon((tmp_path / "pids").exists)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    if why == "cancel":
        await client.cancel(job_id)
        with pytest.raises(JobCancelled):
            await client.wait(job_id, timeout=30)
        assert not (await client.get(job_id)).failures
    await soon(lambda: why == "drain" or all(map(gone, pids)))
    if why == "deadline":
        await soon(lambda: worker.completed + worker.stale > 0)
        assert (await client.get(job_id)).state is JobState.DEAD
    worker.stop()
    await asyncio.gather(running, return_exceptions=True)
    await soon(lambda: all(map(gone, pids)))
    if why == "drain":
        job = await client.get(job_id)
        assert job.state is JobState.READY
        assert job.attempt == 0


@pytest.mark.parametrize("kind", ["polite", "slow-async"])
async def test_who_listens_ends_by_itself(
    server: RunningServer, client: AsyncClient, tmp_path: Path, kind: str
) -> None:
    started = tmp_path / "started"
    async with working(server, app) as worker:
        job_id = await client.enqueue(QUEUE, kind, str(started).encode())
        await soon(started.exists)
        await client.cancel(job_id)
        await soon(lambda: worker.completed == 1)
        job = await client.get(job_id)
    # Complete wins over a request to cancel.
    expected = JobState.SUCCEEDED if kind == "polite" else JobState.CANCELLED
    assert job.state is expected
    assert not job.failures
    assert job.result == (b"half of it" if kind == "polite" else b"")


async def test_a_handler_in_a_subprocess_hears_of_its_lease_and_why_it_is_to_stop(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(isolated, "DRAIN_KILL_AFTER_S", 60.0)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    job = fake_job("stately")
    running = asyncio.create_task(run_job_async(app, job, in_subprocess=True))
    await soon(lambda: len(job.progress) == 1)
    job.lease_state = LeaseState.UNCERTAIN
    await soon(lambda: len(job.progress) == 2)
    job.drain()
    assert (await running).result == b"uncertain, draining: True, program: -15"
    assert "its own words" in capfd.readouterr().out, "however soon it is killed after its end"


async def test_a_killed_worker_takes_its_subprocesses_along(
    server: RunningServer, client: AsyncClient, processes: Processes, tmp_path: Path
) -> None:
    worker = processes.worker("tests.worker.isolated_app:app", server.grpc_address)
    await client.enqueue(QUEUE, "deaf", str(tmp_path).encode())
    await soon((tmp_path / "pids").exists)
    handler, beside = map(int, (tmp_path / "pids").read_text().split())
    worker.kill()
    await soon(lambda: gone(handler))
    # Nobody was left to kill what the deaf handler had started.
    os.kill(beside, signal.SIGKILL)


def test_a_subprocess_needs_the_name_of_its_app() -> None:
    nameless = App()
    nameless.job("do", subprocess=True)(print)
    with pytest.raises(ValueError, match="MODULE:APP"):
        Worker(nameless, "127.0.0.1:1")
    with pytest.raises(ValueError, match="kill_after must be"):
        nameless.job("other", kill_after=-1)
