"""For your tests: run one handler on a job of your making, or a worker beside your test.

from atlasqueue_worker.testing import fake_job, run_job

def test_an_empty_picture_is_rejected():
    ended = run_job(app, fake_job("resize", b""))
    assert ended.outcome == "reject"
    assert "nothing to resize" in ended.error_message

No server takes part: the handler runs with its middleware as in a worker, and what it would have reported
is returned. For a test with a server, see atlasqueue_server.testing.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

from atlasqueue.jobs import to_duration
from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker.app import DEFAULT_QUEUE, App, Next
from atlasqueue_worker.handlers import in_thread, prepare
from atlasqueue_worker.job import JobContext, unless_drained
from atlasqueue_worker.outcomes import Cancel, completed, ended
from atlasqueue_worker.worker import Worker

START_S = 30.0


class FakeJob(JobContext):
    """A job without a server. What its handler tells is kept, in order.

    Attributes:
        checkpoints: each that was saved.
        progress: each (percent, note) that was told.
    """

    def __init__(self, leased: worker_service_pb2.LeasedJob) -> None:
        super().__init__(leased)
        self.checkpoints: list[bytes] = []
        self.progress: list[tuple[int, str]] = []

    def _tell(self, what: str, value: object) -> None:
        if what == "progress":
            self.progress.append(cast(tuple[int, str], value))
        else:
            self.checkpoints.append(cast(bytes, value))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a handler ended.

    Attributes:
        outcome: complete, fail, reject, snooze, release or cancel.
        result: what it returned, as it would be stored.
        error_type: the class of what it raised, for fail and reject.
        error_message: its text.
        error_stack: where.
        delay: for snooze, and for fail when the handler chose it.
    """

    outcome: str
    result: bytes = b""
    error_type: str = ""
    error_message: str = ""
    error_stack: str = ""
    delay: timedelta | None = None


def fake_job(
    kind: str,
    payload: bytes = b"",
    *,
    queue: str = DEFAULT_QUEUE,
    job_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    fence: int = 1,
    priority: int = 3,
    attempt: int = 0,
    crashes: int = 0,
    deliveries: int = 1,
    max_attempts: int = 20,
    checkpoint: bytes = b"",
    time_left: float | None = None,
) -> FakeJob:
    """A job to run a handler on; `time_left` in seconds.

    Call its `cancel`, or its `drain` for a worker that stops, to see whether a handler listens.
    """
    leased = worker_service_pb2.LeasedJob(
        queue=queue,
        job_id=job_id or str(uuid.uuid4()),
        fence=fence,
        kind=kind,
        payload=payload,
        headers=headers,
        priority=priority,
        attempt=attempt,
        crashes=crashes,
        deliveries=deliveries,
        max_attempts=max_attempts,
        checkpoint=checkpoint,
    )
    if time_left is not None:
        leased.deadline_time_left.CopyFrom(to_duration(timedelta(seconds=time_left)))
    return FakeJob(leased)


def run_job(app: App, job: JobContext, *, in_subprocess: bool = False) -> Ended:
    """Runs the job's handler, with the app's middleware, and returns how it ended.

    Handlers registered with `subprocess=True` run in this process, where a debugger reaches them, unless
    `in_subprocess`. Raises LookupError when the app has no handler for the job's kind.
    """
    return asyncio.run(run_job_async(app, job, in_subprocess=in_subprocess))


async def run_job_async(app: App, job: JobContext, *, in_subprocess: bool = False) -> Ended:
    """`run_job` for async tests."""
    registration = app.registrations.get(job.kind)
    if registration is None:
        known = ", ".join(sorted(app.registrations)) or "none"
        raise LookupError(f"the app has no handler for kind {job.kind!r}; it has: {known}")
    registration = replace(registration, subprocess=registration.subprocess and in_subprocess)
    outcome = worker_service_pb2.JobOutcome()
    with ThreadPoolExecutor(1) as threads:
        registration = prepare(registration, app, threads)
        if registration.is_async:
            run = cast(Next, registration.handler)
        else:

            async def run(job: JobContext) -> Any:
                return await in_thread(threads, registration.handler, job)

        await _run(run, job, outcome)
    return _ended(outcome)


async def _run(run: Next, job: JobContext, outcome: worker_service_pb2.JobOutcome) -> None:
    async def call() -> Any:
        try:
            return await run(job)
        except SystemExit as error:
            # As in a worker, where it ends nothing but the attempt.
            raise RuntimeError(f"the handler raised SystemExit: {error}") from error

    # A task of its own: a cancel of the job cancels the handler, not the test.
    handler = asyncio.create_task(call())

    def stop(_: JobContext) -> None:
        handler.cancel()

    job.bind(asyncio.get_running_loop(), stop)
    if job.cancelled:
        job.cancel()
    try:
        completed(outcome, unless_drained(job, await asyncio.shield(handler)))
    except asyncio.CancelledError:
        if not handler.cancelled():
            handler.cancel()
            raise
        ended(outcome, unless_drained(job, Cancel()))
    except Exception as error:
        ended(outcome, unless_drained(job, error))


def _ended(outcome: worker_service_pb2.JobOutcome) -> Ended:
    name = outcome.WhichOneof("outcome") or ""
    match name:
        case "complete":
            return Ended(name, result=outcome.complete.result)
        case "fail":
            after = outcome.fail.retry_after
            delay = after.ToTimedelta() if outcome.fail.HasField("retry_after") else None
            error = outcome.fail.error
            return Ended(name, b"", error.type, error.message, error.stack, delay)
        case "reject":
            error = outcome.reject.error
            return Ended(name, b"", error.type, error.message, error.stack)
        case "snooze":
            return Ended(name, delay=outcome.snooze.delay.ToTimedelta())
    return Ended(name)


@contextmanager
def running_worker(
    app: App, servers: str | Sequence[str] | None = None, *, grace: float = 5.0, **options: Any
) -> Iterator[Worker]:
    """A worker in a thread of its own that drains at the end; `options` as of Worker.

    Raises what the worker raised. Starts no sooner than a server has opened its session.
    """
    started: list[tuple[Worker, asyncio.AbstractEventLoop]] = []
    ready = threading.Event()
    failed: list[BaseException] = []

    async def work() -> None:
        worker = Worker(app, servers, grace=grace, **options)
        started.append((worker, asyncio.get_running_loop()))
        opened = asyncio.create_task(worker.stream.session_opened.wait())
        opened.add_done_callback(lambda _: ready.set())
        try:
            await worker.run()
        finally:
            opened.cancel()

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="atlasqueue-worker", daemon=True)
    thread.start()
    if not ready.wait(START_S):
        failed.append(TimeoutError(f"no server opened a session within {START_S} s"))
    try:
        if failed:
            raise failed[0]
        yield started[0][0]
    finally:
        if started and thread.is_alive():
            worker, loop = started[0]
            loop.call_soon_threadsafe(worker.stop)
        thread.join(grace + START_S)
    if failed:
        raise failed[0]
