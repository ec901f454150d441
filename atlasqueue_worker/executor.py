"""Runs handlers: async ones as tasks, plain ones in threads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog

from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker.app import App, Registration
from atlasqueue_worker.job import JobContext, LeaseState
from atlasqueue_worker.outcomes import Cancel, Release, completed, ended

# The outcomes after which the job runs again, unless its attempts are spent.
RUN_AGAIN = ("fail", "snooze", "release")

JobOutcome = worker_service_pb2.JobOutcome

log = structlog.get_logger("atlasqueue.worker")


class Executor:
    """Runs jobs and hands their outcomes on. The server never sends more than the slots."""

    def __init__(
        self,
        app: App,
        slots: int,
        report: Callable[[JobOutcome], None],
        tell: Callable[[], Awaitable[None]],
    ) -> None:
        self._app = app
        self._report = report
        self._tell = tell
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="atlasqueue-job")
        self._running: dict[asyncio.Task[None], JobContext] = {}
        self._draining = False

    @property
    def running(self) -> list[JobContext]:
        """The jobs whose handlers run."""
        return list(self._running.values())

    def start(self, jobs: list[JobContext]) -> None:
        """Runs the handlers of jobs that have arrived."""
        loop = asyncio.get_running_loop()
        for job in jobs:
            registration = self._app.registrations.get(job.kind)
            if registration is None:
                log.warning("unknown_kind", queue=job.queue, job=job.job_id, kind=job.kind)
                outcome = _outcome(job)
                outcome.unknown_kind.SetInParent()
                self._report(outcome)
                continue
            job.bind(loop)
            task = loop.create_task(self._run(registration, job))
            self._running[task] = job
            task.add_done_callback(self._running.pop)

    async def _run(self, registration: Registration, job: JobContext) -> None:
        outcome = _outcome(job)
        try:
            value = await self._call(registration, job)
            completed(outcome, _unless_drained(job, value))
        except asyncio.CancelledError:
            ended(outcome, Release() if self._draining else Cancel("cancelled"))
        except Exception as error:
            ended(outcome, _unless_drained(job, error))
            _log_failure(job, error)
        if outcome.WhichOneof("outcome") in RUN_AGAIN and job.has_checkpoint_to_tell:
            # The report ends the lease, and with it the chance to keep what the next run begins from.
            # A drain that has waited enough cancels the wait, not the report.
            with contextlib.suppress(asyncio.CancelledError):
                await self._tell()
        if job.lease_state is LeaseState.LOST:
            log.warning("outcome_dropped", queue=job.queue, job=job.job_id, fence=job.fence)
            return
        self._report(outcome)

    async def _call(self, registration: Registration, job: JobContext) -> Any:
        if not registration.is_async:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, _in_thread, registration.handler, job)
        handler = asyncio.ensure_future(_in_loop(registration.handler(job)))
        stop = asyncio.ensure_future(job.cancellation())
        try:
            await asyncio.wait({handler, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not handler.done():
                handler.cancel()
            return await handler
        finally:
            stop.cancel()
            handler.cancel()

    async def drain(self, grace_s: float) -> None:
        """Lets handlers finish within the grace, then asks them to stop and releases their jobs."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=grace_s)
        self._draining = True
        for job in self.running:
            job.drain()
        if self._running:
            await asyncio.wait(set(self._running), timeout=1.0)
        for task, job in list(self._running.items()):
            # A thread cannot be stopped: its job goes back, and what it still reports will be STALE.
            task.cancel()
            log.warning("released_while_running", queue=job.queue, job=job.job_id)
        if self._running:
            await asyncio.wait(set(self._running), timeout=1.0)
        self._threads.shutdown(wait=False, cancel_futures=True)


def _in_thread(handler: Callable[[JobContext], Any], job: JobContext) -> Any:
    """Runs a plain handler. What a future cannot carry, or what would end the worker, is an error of the job."""
    try:
        return handler(job)
    except (StopIteration, SystemExit) as error:
        raise RuntimeError(f"the handler raised {type(error).__name__}: {error}") from error


async def _in_loop(handler: Awaitable[Any]) -> Any:
    """The same for an async one."""
    try:
        return await handler
    except SystemExit as error:
        raise RuntimeError(f"the handler raised SystemExit: {error}") from error


T = TypeVar("T")


def _unless_drained(job: JobContext, ending: T) -> T | Release:
    """What the handler ended with; but a job that was asked to stop by a drain alone is not cancelled."""
    return Release() if job.draining and isinstance(ending, Cancel) else ending


def _outcome(job: JobContext) -> JobOutcome:
    return JobOutcome(queue=job.queue, job_id=job.job_id, fence=job.fence)


def _log_failure(job: JobContext, error: Exception) -> None:
    log.info(
        "attempt_ended",
        queue=job.queue,
        job=job.job_id,
        kind=job.kind,
        fence=job.fence,
        attempt=job.attempt,
        error=type(error).__name__,
    )
