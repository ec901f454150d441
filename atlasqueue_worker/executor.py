"""Runs handlers: async ones in runners, plain ones in threads.

A task for each job would cost more than a short handler does, so a runner is a task that takes one waiting
job after another. Handlers that never wait are all done by one runner; as soon as one waits, the next
runner starts, twice as many each time, up to one a job:

    jobs ──▶ waiting ──▶ runner ──await handler──▶ outcome
                └──────▶ runner …      started while jobs wait and the runners before them are busy

Each handler sees the context variables that the worker was started with, and no cancel that was another
job's: a runner whose handler changed them, or was cancelled, ends, and a new one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker.app import App, Dress, Handler
from atlasqueue_worker.handlers import prepared
from atlasqueue_worker.job import JobContext, LeaseState, Report, unless_drained
from atlasqueue_worker.outcomes import Cancel, completed, ended, error_name, no_exit
from atlasqueue_worker.tracing import TRACEPARENT

# A runner lets the event loop breathe after so long, even if its handlers never wait.
TURN_S = 0.005
STOP_WAIT_S = 1.0
# The outcomes after which the job runs again, unless its attempts are spent.
RUN_AGAIN = ("fail", "snooze", "release")

JobOutcome = worker_service_pb2.JobOutcome

log = structlog.get_logger("atlasqueue.worker")


class _Runner:
    """A task that runs one async handler after another, and which of them it runs now."""

    __slots__ = ("job", "task")

    def __init__(self) -> None:
        self.job: JobContext | None = None
        self.task: asyncio.Task[None] | None = None

    def stop(self, job: JobContext) -> None:
        """Cancels the handler of `job`, if it is still the one that runs."""
        if self.job is job and self.task is not None:
            self.task.cancel()


class Executor:
    """Runs jobs and hands their outcomes on. The server never sends more than the slots."""

    def __init__(
        self,
        app: App,
        slots: int,
        report: Report,
        tell: Callable[[], Awaitable[None]],
        dresses: Sequence[Dress] = (),
        spans: Dress | None = None,
    ) -> None:
        self._report = report
        self._tell = tell
        self._telling: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="atlasqueue-job")
        self._registrations = prepared(app, self._threads, dresses)
        # By kind, for the few jobs that are traced.
        self._traced = {
            kind: spans(of_kind.handler, of_kind.is_async)
            for kind, of_kind in self._registrations.items()
            if spans
        }
        self._context = contextvars.copy_context()
        self._jobs: dict[int, JobContext] = {}
        self._waiting: deque[tuple[Handler, JobContext]] = deque()
        self._waiting_plain: deque[tuple[Handler, JobContext]] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._growth = 0
        self._growing = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> list[JobContext]:
        """The jobs whose handlers run or are about to."""
        return list(self._jobs.values())

    def start(self, jobs: list[JobContext]) -> None:
        """Runs the handlers of jobs that have arrived."""
        plain = 0
        for job in jobs:
            registration = self._registrations.get(job.kind)
            if registration is None:
                self._set_aside(job)
                continue
            self._jobs[job.fence] = job
            handler = registration.handler
            if self._traced and TRACEPARENT in job.headers:
                handler = self._traced[job.kind]
            if registration.is_async:
                self._waiting.append((handler, job))
            else:
                self._waiting_plain.append((handler, job))
                plain += 1
        if self._jobs:
            self._idle.clear()
        if self._waiting and not self._growing:
            self._growth = 1
            self._grow()
        loop = asyncio.get_running_loop()
        for _ in range(plain):
            self._threads.submit(self._run_plain, loop)

    def _set_aside(self, job: JobContext) -> None:
        log.warning("unknown_kind", queue=job.queue, job=job.job_id, kind=job.kind)
        outcome = JobOutcome()
        outcome.unknown_kind.SetInParent()
        self._report(job, outcome)

    def _grow(self) -> None:
        """Starts runners, and looks again once they have begun: what waits then needs more of them.

        So it goes on for as long as a job waits, whichever runners have ended meanwhile.
        """
        self._growing = bool(self._waiting)
        if not self._growing:
            return
        loop = asyncio.get_running_loop()
        for _ in range(min(self._growth, len(self._waiting))):
            runner = _Runner()
            runner.task = self._context.copy().run(loop.create_task, self._run(runner))
            self._runners.add(runner.task)
            runner.task.add_done_callback(self._runners.discard)
        self._growth *= 2
        loop.call_soon(self._grow)

    async def _run(self, runner: _Runner) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        untouched = contextvars.copy_context()
        turn_ends = loop.time() + TURN_S
        while self._waiting:
            handler, job = self._waiting.popleft()
            if job.cancelled:
                self._cancelled(job)
                continue
            runner.job = job
            job.bind(loop, runner.stop)
            try:
                self._completed(job, await handler(job))
            except asyncio.CancelledError:
                if job.cancelled:
                    self._cancelled(job)
                else:
                    # Something within the handler was cancelled; nobody asked for that of the job.
                    self._failed(
                        job, RuntimeError("the handler ended in a cancellation of its own")
                    )
            except SystemExit as error:
                self._failed(job, no_exit(error))
            except KeyboardInterrupt:
                # Meant for the worker, whoever raised it.
                log.error("interrupted_in_handler", queue=job.queue, job=job.job_id, kind=job.kind)
                raise
            except GeneratorExit as error:
                if asyncio.current_task(loop) is not task:
                    # Nobody raised it: this coroutine is closed, for its loop has ended.
                    raise
                self._failed(job, error)
            except BaseException as error:
                self._failed(job, error)
            runner.job = None
            now = contextvars.copy_context()
            if task.cancelling() or now != untouched:
                break
            # Put back is equal, but only the same is compared at a glance.
            untouched = now
            if loop.time() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = loop.time() + TURN_S

    def _run_plain(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: runs one plain handler."""
        try:
            handler, job = self._waiting_plain.popleft()
        except IndexError:
            return
        try:
            # It may have waited long for its thread.
            job.raise_if_cancelled()
            value = self._context.copy().run(handler, job)
        except (SystemExit, KeyboardInterrupt) as error:
            done: Callable[[JobContext, Any], None] = self._failed
            value = no_exit(error)
        except BaseException as error:
            # Whatever it is, of this thread nobody else hears, and the job would be held for ever.
            done = self._failed
            value = error
        else:
            done = self._completed
        # The worker may have ended long ago.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(done, job, value)

    def _completed(self, job: JobContext, value: Any) -> None:
        if value is None:
            self._hand_on(job, None)
        else:
            self._ended(job, completed(JobOutcome(), unless_drained(job, value)))

    def _cancelled(self, job: JobContext) -> None:
        self._ended(job, ended(JobOutcome(), unless_drained(job, Cancel("cancelled"))))

    def _failed(self, job: JobContext, error: BaseException) -> None:
        outcome = ended(JobOutcome(), unless_drained(job, error))
        log.info(
            "attempt_ended",
            queue=job.queue,
            job=job.job_id,
            kind=job.kind,
            fence=job.fence,
            attempt=job.attempt,
            error=error_name(error),
        )
        self._ended(job, outcome)

    def _ended(self, job: JobContext, outcome: JobOutcome) -> None:
        if job.has_checkpoint_to_tell and outcome.WhichOneof("outcome") in RUN_AGAIN:
            telling = asyncio.get_running_loop().create_task(self._tell_and_end(job, outcome))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
        else:
            self._hand_on(job, outcome)

    async def _tell_and_end(self, job: JobContext, outcome: JobOutcome) -> None:
        # The report ends the lease, and with it the chance to keep what the next run begins from.
        # A drain that has waited enough cancels the wait, not the report.
        with contextlib.suppress(asyncio.CancelledError):
            await self._tell()
        self._hand_on(job, outcome)

    def _hand_on(self, job: JobContext, outcome: JobOutcome | None) -> None:
        if self._jobs.pop(job.fence, None) is None:
            # It was released while its thread ran on; whatever it says now is stale.
            return
        if not self._jobs:
            self._idle.set()
        if job.lease_state is LeaseState.LOST:
            log.warning("outcome_dropped", queue=job.queue, job=job.job_id, fence=job.fence)
            return
        self._report(job, outcome)

    async def drain(self, grace_s: float) -> None:
        """Lets handlers finish within the grace, then asks them to stop and releases their jobs."""
        await self._wait_idle(grace_s)
        for job in self.running:
            job.drain()
        for waiting in (self._waiting, self._waiting_plain):
            while waiting:
                self._cancelled(waiting.popleft()[1])
        await self._wait_idle(STOP_WAIT_S)
        await self._stop_telling()
        for job in self.running:
            # A thread cannot be stopped: its job goes back, and what it still reports will be STALE.
            log.warning("released_while_running", queue=job.queue, job=job.job_id)
            self._cancelled(job)
        await self._wait_idle(STOP_WAIT_S)
        await self._stop_telling()
        for runner in self._runners:
            runner.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _stop_telling(self) -> None:
        for telling in self._telling:
            telling.cancel()
        if self._telling:
            await asyncio.wait(set(self._telling))

    async def _wait_idle(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return
