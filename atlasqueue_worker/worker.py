"""A worker: a session on a list of servers, and the handlers that it runs.

Stream ──jobs──▶ Held ──▶ Executor ──outcomes──▶ Reporter ──answers──▶ Held
Heartbeater (own thread) ◀──what is held── Held ◀──lost, cancel── Heartbeater
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence

import structlog

from atlasqueue.channel import Tls, parse_addresses
from atlasqueue.errors import SessionSuperseded
from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker import tracing
from atlasqueue_worker.app import App, Dress
from atlasqueue_worker.executor import Executor
from atlasqueue_worker.heartbeater import Heartbeater
from atlasqueue_worker.held import Held
from atlasqueue_worker.job import JobContext, Report
from atlasqueue_worker.metrics import WorkerMetrics
from atlasqueue_worker.outcomes import verb_of
from atlasqueue_worker.reporter import JobOutcome, Reporter
from atlasqueue_worker.session import Session
from atlasqueue_worker.stream import Stream

ANSWERED = {
    worker_service_pb2.REPORT_STATUS_APPLIED,
    worker_service_pb2.REPORT_STATUS_ALREADY_APPLIED,
}
SLOTS_MAX = 10_000
FLUSH_S = 5.0
HEALTH_S = 0.25
TELL_S = 5.0
GOODBYE_S = 2.0

log = structlog.get_logger("atlasqueue.worker")


def logging_outcomes(report: Report, session: Session) -> Report:
    """`report`, with a line in the log for each outcome: at level debug only."""

    def logged(job: JobContext, outcome: JobOutcome | None) -> None:
        trace = job.headers.get("traceparent", "").split("-")
        log.debug(
            verb_of(outcome),
            queue=job.queue,
            job=job.job_id,
            kind=job.kind,
            session=session.named()[0],
            fence=job.fence,
            trace=trace[1] if len(trace) == 4 else None,
        )
        report(job, outcome)

    return logged


def default_name() -> str:
    """Host and process, as a name that the contract accepts."""
    host = "".join(
        c if c.isascii() and (c.isalnum() or c in ".-_") else "-" for c in socket.gethostname()
    )
    return f"{host.strip('.-_')[:100] or 'worker'}-{os.getpid()}"


class Worker:
    """Runs an app's handlers. `await run()` until `stop()`.

    Args:
        app: the handlers.
        servers: host:port, several with commas or as a list; default as for the SDK's clients.
        slots: how many jobs it runs at once, 1 to 10 000.
        queues: which queues it serves; default: those of its handlers.
        name: for people.
        grace: seconds, 0 or more, that handlers get to finish when it stops; then their jobs are released.
        tls: files for TLS; default: plain text.
        metrics: counts what it does; default: nothing is counted.

    Raises ValueError when slots or grace break their bounds.
    """

    def __init__(
        self,
        app: App,
        servers: str | Sequence[str] | None = None,
        *,
        slots: int = 10,
        queues: Sequence[str] | None = None,
        name: str | None = None,
        grace: float = 30.0,
        tls: Tls | None = None,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        addresses = parse_addresses(servers)
        if not 1 <= slots <= SLOTS_MAX:
            raise ValueError(f"slots must be 1 to {SLOTS_MAX}, not {slots}")
        # Written so that NaN is refused.
        if not grace >= 0:
            raise ValueError(f"grace must be 0 seconds or more, not {grace}")
        self.grace = grace
        self.slots = slots
        self.completed = 0
        self.stale = 0
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._superseded = False
        self._session = Session()
        self.held = Held()
        self.reporter = Reporter(
            addresses, tls, self._session, self.held, self._answered, self._were_completed, slots
        )
        self._metrics = metrics
        report: Report = self.reporter.report
        dresses: list[Dress] = []
        if metrics is not None:
            metrics.watch(self, set(app.registrations))
            dresses.append(metrics.timed)
            report = metrics.counting(report)
        self._traced = tracing.runs()
        # An unconfigured structlog lets everything through: a line a job is for who asked for it.
        if structlog.is_configured() and log.is_enabled_for(logging.DEBUG):
            report = logging_outcomes(report, self._session)
        spans = self._traced.dress if self._traced else None
        self.executor = Executor(app, slots, report, self._tell, dresses, spans)
        terms = worker_service_pb2.LeaseRequest(
            queues=list(queues or app.queues), slots=slots, worker=name or default_name()
        )
        self.stream = Stream(addresses, tls, terms, self._session, self.held, self.executor.start)
        self._heartbeater = Heartbeater(
            addresses,
            tls,
            self._session,
            self.held,
            on_lost=lambda: self._from_thread(self.stream.restart),
            on_superseded=lambda: self._from_thread(self._be_superseded),
            on_reopen=lambda: self._from_thread(self.stream.reopen),
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def healthy(self) -> bool:
        """Whether it can take jobs and keep them: its stream is alive and heartbeats are answered."""
        return self.stream.alive and self._heartbeater.answered

    @property
    def heartbeats_answered(self) -> bool:
        """Whether the last heartbeat was answered."""
        return self._heartbeater.answered

    def stop(self) -> None:
        """Drains and ends `run`; called again: at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def run(self) -> None:
        """Works until `stop`. Cancelled, it asks handlers to stop and leaves their jobs to the end of their leases.

        Raises SessionSuperseded when another process took the session over, InvalidField when the server
        refuses its name, queues or slots.
        """
        self._loop = asyncio.get_running_loop()
        stream = asyncio.create_task(self.stream.run(), name="stream")
        reporter = asyncio.create_task(self.reporter.run(), name="reporter")
        stopping = asyncio.create_task(self._stopping.wait())
        beside = [asyncio.create_task(self._watch_health(), name="health")]
        if self._traced is not None:
            beside.append(asyncio.create_task(self._traced.run(), name="spans"))
        self._heartbeater.start()
        try:
            ended = {stream, reporter, stopping}
            done, _ = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            failed = next((t.exception() for t in (stream, reporter) if t in done), None)
            stream.cancel()
            await asyncio.gather(stream, return_exceptions=True)
            self.held.no_more_arrive()
            await self._drain()
            await self._say_goodbye()
        finally:
            for job in self.executor.running:
                # Of a run that was cancelled: from here on nobody keeps their leases.
                job.cancel()
            for task in (stream, stopping, reporter, *beside):
                task.cancel()
            await asyncio.gather(stream, reporter, stopping, *beside, return_exceptions=True)
            await asyncio.to_thread(self._heartbeater.stop)
        if failed is not None:
            raise failed
        if self._superseded:
            raise SessionSuperseded("another process opened this worker's session")

    async def _watch_health(self) -> None:
        healthy = False
        while True:
            if self.healthy != healthy:
                healthy = not healthy
                if healthy:
                    log.info("healthy")
                else:
                    log.warning(
                        "unhealthy", stream=self.stream.alive, heartbeats=self._heartbeater.answered
                    )
            await asyncio.sleep(HEALTH_S)

    async def _drain(self) -> None:
        log.info("draining", running=len(self.executor.running), grace_s=self.grace)
        if self._has_session:
            self._heartbeater.beat_now(lambda: None)
        drain = asyncio.create_task(self.executor.drain(self.grace))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
        if not drain.done():
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)
            await self.executor.drain(0)
        hurry.cancel()
        try:
            await asyncio.wait_for(self.reporter.flush(), FLUSH_S)
        except TimeoutError:
            log.warning("outcomes_not_reported", held=len(self.held.snapshot()[0]))

    async def _say_goodbye(self) -> None:
        """Jobs that the server sent while the stream ended go back now, not when the session is over."""
        if self._has_session:
            await self._beat_within(GOODBYE_S)

    @property
    def _has_session(self) -> bool:
        return self._session.named()[0] != 0 and not self._superseded

    async def _tell(self) -> None:
        """Returns when a heartbeat has brought what handlers have told, or when none can for a while."""
        if not await self._beat_within(TELL_S):
            log.warning("checkpoints_not_told")

    async def _beat_within(self, seconds: float) -> bool:
        """Whether a heartbeat that is sent at once was answered in time."""
        answered = asyncio.Event()
        self._heartbeater.beat_now(lambda: self._from_thread(answered.set))
        try:
            async with asyncio.timeout(seconds):
                await answered.wait()
        except TimeoutError:
            return False
        return True

    def _from_thread(self, action: object) -> None:
        if self._loop is not None and callable(action) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)

    def _be_superseded(self) -> None:
        self._superseded = True
        self._stopping.set()

    def _were_completed(self, jobs: Sequence[JobContext]) -> None:
        if self._metrics is not None:
            self._metrics.answered(worker_service_pb2.REPORT_STATUS_APPLIED, len(jobs))
        self.completed += len(jobs)

    def _answered(
        self, job: JobContext, outcome: JobOutcome | None, result: worker_service_pb2.ReportResult
    ) -> None:
        if self._metrics is not None:
            self._metrics.answered(result.status)
        if result.status in ANSWERED:
            self.completed += 1
            return
        self.stale += 1
        log.warning(
            "outcome_refused",
            queue=job.queue,
            job=job.job_id,
            fence=job.fence,
            outcome=verb_of(outcome),
            status=worker_service_pb2.ReportStatus.Name(result.status),
        )
