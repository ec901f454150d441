"""Runs handlers: async ones as tasks, plain ones in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker.app import App, Registration
from atlasqueue_worker.job import JobContext, LeaseState
from atlasqueue_worker.outcomes import Cancel, completed, ended

JobOutcome = worker_service_pb2.JobOutcome

log = structlog.get_logger("atlasqueue.worker")


class Executor:
    """Runs jobs and hands their outcomes on. The server never sends more than the slots."""

    def __init__(self, app: App, slots: int, report: Callable[[JobOutcome], None]) -> None:
        self._app = app
        self._report = report
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
            completed(outcome, value)
        except asyncio.CancelledError:
            if self._draining:
                outcome.release.SetInParent()
            else:
                ended(outcome, Cancel("cancelled"))
        except Exception as error:
            ended(outcome, error)
            _log_failure(job, error)
        if job.lease_state is LeaseState.LOST:
            log.warning("outcome_dropped", queue=job.queue, job=job.job_id, fence=job.fence)
            return
        self._report(outcome)

    async def _call(self, registration: Registration, job: JobContext) -> Any:
        if not registration.is_async:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, registration.handler, job)
        handler = asyncio.ensure_future(registration.handler(job))
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
            job.cancel()
        if self._running:
            await asyncio.wait(set(self._running), timeout=1.0)
        for task, job in list(self._running.items()):
            # A thread cannot be stopped: its job goes back, and what it still reports will be STALE.
            task.cancel()
            log.warning("released_while_running", queue=job.queue, job=job.job_id)
        if self._running:
            await asyncio.wait(set(self._running), timeout=1.0)
        self._threads.shutdown(wait=False, cancel_futures=True)


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
