"""The domain's nouns into responses."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from atlasqueue.v1 import job_pb2, queue_service_pb2, worker_service_pb2
from atlasqueue_server.model import limits
from atlasqueue_server.model.columns import CompletedJobs
from atlasqueue_server.model.jobs import (
    Depth,
    Failure,
    Job,
    LeaseName,
    Outcome,
    Queue,
    Reported,
    ReportStatus,
    Session,
)
from atlasqueue_server.model.retry import NO_POLICY, RetryPolicy
from atlasqueue_server.rpc.codes import CAUSES, REASONS, REPORT_STATUSES, STATES
from atlasqueue_server.store.cluster import ServerRow
from atlasqueue_server.store.lease import LeasedRow
from atlasqueue_server.store.sessions import SessionRow


def timestamp(time: datetime) -> Timestamp:
    """A time on the wire."""
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def seconds(value: float) -> Duration:
    """A duration on the wire, from seconds."""
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=value))
    return duration


def milliseconds(value: int) -> Duration:
    """A duration on the wire, from milliseconds."""
    duration = Duration()
    duration.FromMilliseconds(value)
    return duration


def retry_policy(policy: RetryPolicy) -> job_pb2.RetryPolicy | None:
    """A policy on the wire; None when nothing is set."""
    if policy == NO_POLICY:
        return None
    return job_pb2.RetryPolicy(
        max_attempts=policy.max_attempts,
        initial_backoff=None
        if policy.backoff_initial_ms is None
        else milliseconds(policy.backoff_initial_ms),
        multiplier=policy.backoff_multiplier,
        max_backoff=None if policy.backoff_cap_ms is None else milliseconds(policy.backoff_cap_ms),
    )


def job(found: Job) -> job_pb2.Job:
    """A job on the wire."""
    return job_pb2.Job(
        queue=found.queue,
        job_id=found.job_id,
        kind=found.kind,
        payload=found.payload,
        headers=json.loads(found.headers_json) if found.headers_json else None,
        priority=found.priority,
        run_at=timestamp(found.run_at) if found.run_at else None,
        deadline=None if found.deadline_ms is None else milliseconds(found.deadline_ms),
        retry_policy=retry_policy(found.policy),
        state=STATES[found.state] if found.state else job_pb2.JOB_STATE_UNSPECIFIED,
        attempt=found.attempt,
        crashes=found.crashes,
        deliveries=found.deliveries,
        fence=found.fence,
        created_at=timestamp(found.created_at),
        finished_at=timestamp(found.finished_at) if found.finished_at else None,
        died_at=timestamp(found.died_at) if found.died_at else None,
        dead_letter_reason=REASONS[found.dead_letter_reason]
        if found.dead_letter_reason
        else job_pb2.DEAD_LETTER_REASON_UNSPECIFIED,
        leased_at=timestamp(found.leased_at) if found.leased_at else None,
        session_id=found.session_id or 0,
        cancel_requested=found.cancel_requested,
        result=found.result or b"",
        progress=_progress(found),
        checkpoint=found.checkpoint or b"",
        failures=[failure(f) for f in found.failures],
    )


def _progress(found: Job) -> job_pb2.Progress | None:
    if found.percent is None and found.note is None:
        return None
    return job_pb2.Progress(percent=found.percent or 0, note=found.note or "")


def failure(found: Failure) -> job_pb2.Failure:
    """A failed attempt on the wire."""
    return job_pb2.Failure(
        fence=found.fence,
        attempt=found.attempt,
        cause=CAUSES[found.cause],
        error=job_pb2.JobError(
            type=found.error.type or "",
            message=found.error.message or "",
            stack=found.error.stack or "",
        ),
        failed_at=timestamp(found.failed_at),
    )


def leased_job(
    queue: str,
    row: LeasedRow,
    make: Callable[..., worker_service_pb2.LeasedJob] = worker_service_pb2.LeasedJob,
) -> worker_service_pb2.LeasedJob:
    """A leased job on the wire, straight from its row; `make` may be the add of a list of them."""
    leased = make(
        queue=queue,
        job_id=row.job_id,
        fence=row.fence,
        kind=row.kind or "",
        payload=row.payload,
        priority=row.priority,
        attempt=row.attempt,
        crashes=row.crashes,
        deliveries=row.deliveries,
        max_attempts=row.max_attempts,
    )
    if row.headers_json:
        # With update(), which is written for any mapping, this takes twice as long.
        for key, value in json.loads(row.headers_json).items():
            leased.headers[key] = value
    if row.checkpoint is not None:
        leased.checkpoint = row.checkpoint
    if row.deadline_at is not None:
        leased.deadline_at.FromDatetime(row.deadline_at)
        # At the moment of the lease nothing of it is spent.
        leased.deadline_time_left.FromMilliseconds(row.deadline_ms or 0)
    return leased


# Fewer jobs of a sort gain nothing.
UNIFORM_MIN = 16
# What jobs of a sort have in common.
_SORT = attrgetter(
    "kind", "priority", "attempt", "crashes", "deliveries", "max_attempts", "headers_json",
    "deadline_at", "deadline_ms", "checkpoint",
)  # fmt: skip


def leased_jobs(
    queue: str, rows: Sequence[LeasedRow], message: worker_service_pb2.LeasedJobs
) -> None:
    """Leased jobs on the wire, for who reads columns: many of a sort share all but id, fence and payload."""
    sorts: dict[object, list[LeasedRow]] = defaultdict(list)
    for sort, row in zip(map(_SORT, rows), rows, strict=True):
        sorts[sort].append(row)
    for alike in sorts.values():
        if len(alike) < UNIFORM_MIN:
            for row in alike:
                leased_job(queue, row, message.jobs.add)
            continue
        shared = leased_job(queue, alike[0])
        for own in ("job_id", "fence", "payload"):
            shared.ClearField(own)
        message.uniform.add(
            shared=shared,
            job_ids=b"".join([row.id_bytes for row in alike]),
            fences=[row.fence for row in alike],
            payloads=[row.payload for row in alike],
        )


def report_response(
    outcomes: Sequence[Outcome], answers: Sequence[Reported]
) -> worker_service_pb2.ReportResponse:
    """The answers to a report on the wire."""
    response = worker_service_pb2.ReportResponse()
    add = response.results.add
    before: Reported | None = None
    for outcome, answer in zip(outcomes, answers, strict=True):
        if answer is not before:
            # Most often one answer is given to all.
            before = answer
            status, state = _reported(answer)
        add(job_id=outcome.job_id, fence=outcome.fence, status=status, state=state)
    return response


def completed_result(
    jobs: CompletedJobs, answers: Sequence[Reported], result: worker_service_pb2.CompletedResult
) -> None:
    """What became of completes without a result: those that were not applied are named."""
    if all(answer.status is ReportStatus.APPLIED for answer in set(answers)):
        return
    for at, answer in enumerate(answers):
        if answer.status is not ReportStatus.APPLIED:
            status, state = _reported(answer)
            job = jobs[at]
            result.others.add(job_id=job.job_id, fence=job.fence, status=status, state=state)


def _reported(
    answer: Reported,
) -> tuple[worker_service_pb2.ReportStatus.ValueType, job_pb2.JobState.ValueType]:
    state = STATES[answer.state] if answer.state else job_pb2.JOB_STATE_UNSPECIFIED
    return REPORT_STATUSES[answer.status], state


def session_opened(
    session: Session, server_id: str, ping_s: float = limits.PING_INTERVAL_S
) -> worker_service_pb2.SessionOpened:
    """A session on the wire."""
    timeout_ms = session.visibility_timeout_ms
    return worker_service_pb2.SessionOpened(
        session_id=session.session_id,
        epoch=session.epoch,
        visibility_timeout=milliseconds(timeout_ms),
        heartbeat_interval=milliseconds(timeout_ms // limits.HEARTBEATS_PER_VISIBILITY_TIMEOUT),
        ping_interval=seconds(ping_s),
        server_id=server_id,
    )


def job_lease(lease: LeaseName) -> worker_service_pb2.JobLease:
    """A lease's name on the wire."""
    return worker_service_pb2.JobLease(queue=lease.queue, job_id=lease.job_id, fence=lease.fence)


def queue(found: Queue) -> queue_service_pb2.Queue:
    """A queue on the wire."""
    timeout_ms = found.policy.visibility_timeout_ms
    return queue_service_pb2.Queue(
        name=found.name,
        paused=found.paused,
        policy=queue_service_pb2.QueuePolicy(
            retry_policy=retry_policy(found.policy.retry),
            visibility_timeout=None if timeout_ms is None else milliseconds(timeout_ms),
        ),
        created_at=timestamp(found.created_at),
    )


def depth(found: Depth) -> queue_service_pb2.Depth:
    """A depth on the wire."""
    return queue_service_pb2.Depth(
        scheduled=found.scheduled,
        ready=found.ready,
        leased=found.leased,
        dead=found.dead,
        succeeded=found.succeeded,
        cancelled=found.cancelled,
    )


def worker_session(row: SessionRow) -> queue_service_pb2.WorkerSession:
    """A worker's session on the wire."""
    return queue_service_pb2.WorkerSession(
        session_id=row.session_id,
        worker=row.worker,
        queues=row.queues,
        slots=row.slots,
        leased=row.leased,
        epoch=row.epoch,
        streaming=row.streaming,
        server_id=row.server_id,
        opened_at=timestamp(row.opened_at),
        expires_at=timestamp(row.expires_at),
        time_left=seconds(max(0.0, row.time_left_s)),
    )


def server(row: ServerRow) -> queue_service_pb2.Server:
    """A server on the wire."""
    return queue_service_pb2.Server(
        server_id=row.server_id or "",
        address=row.address,
        version=row.version,
        started_at=timestamp(row.started_at),
        last_seen_at=timestamp(row.seen_at),
        leader=bool(row.leader_time_left_s and row.leader_time_left_s > 0)
        and row.leader == row.server_id,
    )
