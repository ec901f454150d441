"""WorkerService."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from atlasqueue.v1 import worker_service_pb2
from atlasqueue_server.domain.dispatch import Dispatcher
from atlasqueue_server.domain.report import Reporter
from atlasqueue_server.domain.sessions import CancelAsked, Event, JobsLeased, Pinged, WentAway
from atlasqueue_server.domain.workers import Workers
from atlasqueue_server.model import limits
from atlasqueue_server.model.columns import CompletedJobs
from atlasqueue_server.model.jobs import Outcome
from atlasqueue_server.rpc import convert_in, convert_out
from atlasqueue_server.rpc.validate import Checker


class WorkerHandlers:
    """Proto in, one domain verb, proto out."""

    def __init__(
        self,
        workers: Workers,
        reporter: Reporter,
        dispatcher: Dispatcher,
        server_id: str,
        ping_s: float = limits.PING_INTERVAL_S,
    ) -> None:
        self._workers = workers
        self._reporter = reporter
        self._dispatcher = dispatcher
        self._server_id = server_id
        self._ping_s = ping_s

    async def lease(
        self, request: worker_service_pb2.LeaseRequest
    ) -> AsyncIterator[worker_service_pb2.LeaseResponse]:
        """The worker's stream."""
        check = Checker()
        terms = convert_in.lease_terms(check, request)
        if terms.session_id and not terms.epoch:
            check.refuse("epoch", "must be set, higher than before, to reopen a session")
        check.raise_if_refused()
        opened = await self._workers.open(terms)
        try:
            yield worker_service_pb2.LeaseResponse(
                session_opened=convert_out.session_opened(
                    opened.session, self._server_id, self._ping_s
                )
            )
            async for event in self._workers.events(opened, self._ping_s):
                yield _response(event, uniform=request.uniform)
        finally:
            self._workers.close(opened)

    async def lease_once(
        self, request: worker_service_pb2.LeaseOnceRequest
    ) -> worker_service_pb2.LeaseOnceResponse:
        """Leases once."""
        check = Checker()
        terms, wait_s = convert_in.lease_once_terms(check, request)
        check.raise_if_refused()
        session, jobs = await self._workers.lease_once(terms, wait_s)
        return worker_service_pb2.LeaseOnceResponse(
            session=convert_out.session_opened(session, self._server_id, self._ping_s),
            jobs=[convert_out.leased_job(queue, row) for queue, row in jobs],
        )

    async def heartbeat(
        self, request: worker_service_pb2.HeartbeatRequest
    ) -> worker_service_pb2.HeartbeatResponse:
        """The worker lives."""
        check = Checker()
        session_id = check.integer("session_id", request.session_id, 1, limits.INT64_MAX)
        epoch = check.integer("epoch", request.epoch, 0, limits.INT64_MAX)
        last_fence = check.integer("last_fence", request.last_fence, 0, limits.INT64_MAX)
        check.count("held", len(request.held), 0, limits.SLOTS_MAX)
        held = [convert_in.held_job(check, f"held[{i}]", job) for i, job in enumerate(request.held)]
        check.once("held", ((job.queue, job.job_id, job.fence) for job in held))
        check.raise_if_refused()
        extended = await self._workers.heartbeat(session_id, epoch, held, last_fence)
        timeout_ms = extended.visibility_timeout_ms
        return worker_service_pb2.HeartbeatResponse(
            stream=worker_service_pb2.STREAM_STATE_LIVE
            if extended.streaming
            else worker_service_pb2.STREAM_STATE_REOPEN,
            lost=[convert_out.job_lease(lease) for lease in extended.lost],
            cancel=[convert_out.job_lease(lease) for lease in extended.cancel],
            time_left=convert_out.milliseconds(timeout_ms),
            heartbeat_interval=convert_out.milliseconds(
                timeout_ms // limits.HEARTBEATS_PER_VISIBILITY_TIMEOUT
            ),
        )

    async def report(
        self, request: worker_service_pb2.ReportRequest
    ) -> worker_service_pb2.ReportResponse:
        """Stores outcomes."""
        check = Checker()
        session_id = check.integer("session_id", request.session_id, 0, limits.INT64_MAX)
        _count(check, request)
        outcomes = convert_in.outcomes(check, request.outcomes)
        completed = [
            convert_in.completed_jobs(check, f"completed[{i}]", told)
            for i, told in enumerate(request.completed)
        ]
        fences = _fences(check, outcomes, completed)
        check.raise_if_refused()
        answers = iter(await self._reporter.report(*filter(len, (outcomes, *completed))))
        self._dispatcher.outcome_stored(session_id, fences)
        response = convert_out.report_response(outcomes, next(answers) if outcomes else ())
        for jobs in completed:
            convert_out.completed_result(jobs, next(answers), response.completed.add())
        return response


def _count(check: Checker, request: worker_service_pb2.ReportRequest) -> None:
    most = limits.BATCH_ITEMS_MAX
    check.count("completed", len(request.completed), 0, most)
    completed = sum(len(jobs.fences) for jobs in request.completed)
    # An empty one is refused by itself.
    least = 0 if request.completed else 1
    field = "outcomes and completed" if completed else "outcomes"
    check.count(field, len(request.outcomes) + completed, least, most)


def _fences(
    check: Checker, outcomes: Sequence[Outcome], completed: Sequence[CompletedJobs]
) -> list[int]:
    """All that a report names. One twice among the outcomes has been refused."""
    fences = [outcome.fence for outcome in outcomes]
    if completed:
        once = len(set(fences))
        for jobs in completed:
            fences += jobs.fences
            once += len(jobs.fences)
        if len(set(fences)) < once:
            check.refuse("completed", "must name no lease that is named before: once each")
    return fences


def _response(event: Event, *, uniform: bool) -> worker_service_pb2.LeaseResponse:
    match event:
        case JobsLeased(queue, rows, _):
            response = worker_service_pb2.LeaseResponse()
            if uniform:
                convert_out.leased_jobs(queue, rows, response.leased_jobs)
                return response
            add = response.leased_jobs.jobs.add
            for row in rows:
                convert_out.leased_job(queue, row, add)
            return response
        case CancelAsked(lease):
            return worker_service_pb2.LeaseResponse(
                cancel_requested=worker_service_pb2.CancelRequested(
                    jobs=[convert_out.job_lease(lease)]
                )
            )
        case Pinged():
            # Timestamp.GetCurrentTime goes by way of datetime, which takes four times as long as all of this.
            response = worker_service_pb2.LeaseResponse()
            now = response.ping.server_time
            now.seconds, now.nanos = divmod(time.time_ns(), 10**9)
            return response
        case WentAway(reason):
            away = worker_service_pb2.GoAway(reason=reason)
            away.reconnect_after.FromTimedelta(timedelta())
            return worker_service_pb2.LeaseResponse(go_away=away)
