"""Rows and cards of the contract's messages, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from atlasqueue.v1 import job_pb2, queue_service_pb2
from atlasqueue_cli.output import cut, text_of
from atlasqueue_cli.times import span

JOB_HEADER = ("JOB", "KIND", "STATE", "PRIORITY", "ATTEMPT", "AGE", "NOTE")
DEAD_HEADER = ("JOB", "KIND", "REASON", "ATTEMPT", "DIED", "ERROR")
QUEUE_HEADER = ("QUEUE", "READY", "SCHEDULED", "LEASED", "DEAD", "SUCCEEDED", "CANCELLED", "NOTE")
WORKER_HEADER = ("SESSION", "WORKER", "QUEUES", "SLOTS", "LEASED", "STREAM", "AGE", "TIME LEFT")
SERVER_HEADER = ("SERVER", "ADDRESS", "VERSION", "AGE", "SEEN", "NOTE")
# What is used where neither job nor queue says (docs of the contract: job.proto, queue_service.proto).
DEFAULTS = {
    "max_attempts": "20",
    "initial_backoff": "1s",
    "multiplier": "2",
    "max_backoff": "1h",
    "visibility_timeout": "30s",
}


def state_name(state: int) -> str:
    """`ready` for JOB_STATE_READY."""
    return _short(job_pb2.JobState, state, "JOB_STATE_")


def reason_name(reason: int) -> str:
    """`rejected` for DEAD_LETTER_REASON_REJECTED."""
    return _short(job_pb2.DeadLetterReason, reason, "DEAD_LETTER_REASON_")


def _short(enum: Any, number: int, prefix: str) -> str:
    # A newer server may know values that this program does not.
    known = number in enum.values()
    return enum.Name(number).removeprefix(prefix).lower() if known else str(number)


def _ago(message: Any, name: str) -> str:
    if not message.HasField(name):
        return "-"
    return span(
        max(datetime.now(UTC) - getattr(message, name).ToDatetime(UTC), datetime.resolution)
    )


def _when(message: Any, name: str) -> str | None:
    if not message.HasField(name):
        return None
    time = getattr(message, name).ToDatetime(UTC)
    delta = datetime.now(UTC) - time
    near = f"{span(delta)} ago" if delta.total_seconds() >= 0 else f"in {span(-delta)}"
    return f"{time.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}  ({near})"


def job_row(job: job_pb2.Job) -> Sequence[Any]:
    """One line of a list of jobs."""
    return (
        job.job_id,
        job.kind,
        state_name(job.state),
        job.priority,
        job.attempt,
        _ago(job, "created_at"),
        job_note(job),
    )


def job_note(job: job_pb2.Job) -> str:
    """What else matters of a job in its state."""
    if job.state == job_pb2.JOB_STATE_SCHEDULED:
        return f"runs at {_when(job, 'run_at')}"
    if job.state == job_pb2.JOB_STATE_DEAD:
        return reason_name(job.dead_letter_reason)
    if job.state == job_pb2.JOB_STATE_LEASED:
        parts = [f"session {job.session_id}"]
        if job.HasField("progress"):
            parts.append(f"{job.progress.percent} % {cut(job.progress.note)}".strip())
        if job.cancel_requested:
            parts.append("cancel requested")
        return ", ".join(parts)
    return ""


def dead_row(job: job_pb2.Job) -> Sequence[Any]:
    """One line of a list of dead letters."""
    return (
        job.job_id,
        job.kind,
        reason_name(job.dead_letter_reason),
        job.attempt,
        f"{_ago(job, 'died_at')} ago",
        cut(error_text(job.failures[-1].error)) if job.failures else "",
    )


def error_text(error: job_pb2.JobError) -> str:
    """`ValueError: no such customer`."""
    return ": ".join(part for part in (error.type, error.message) if part)


def job_card(job: job_pb2.Job) -> Iterator[tuple[str, Any]]:
    """Everything of a job; what is None does not show."""
    yield "job", job.job_id
    yield "queue", job.queue
    yield "kind", job.kind
    note = job_note(job)
    yield "state", f"{state_name(job.state)}  {note}".strip()
    yield "priority", str(job.priority)
    yield "created", _when(job, "created_at")
    yield "run at", _when(job, "run_at")
    yield "leased", _when(job, "leased_at")
    yield "finished", _when(job, "finished_at")
    yield "died", _when(job, "died_at")
    yield "deadline", span(job.deadline.ToTimedelta()) if job.HasField("deadline") else None
    counts = f"{job.attempt} failed, {job.crashes} crashed, {job.deliveries} deliveries"
    yield "attempts", f"{counts}, fence {job.fence}"
    policy = [f"{name} {value}" for name, value in policy_values(job.retry_policy)]
    yield "retries", ", ".join(policy) or None
    for name, value in sorted(job.headers.items()):
        yield "header", f"{name}={value}"
    yield "payload", text_of(job.payload)
    yield "result", text_of(job.result)
    yield "checkpoint", text_of(job.checkpoint)
    for failure in job.failures:
        cause = _short(job_pb2.FailureCause, failure.cause, "FAILURE_CAUSE_")
        text = cut(error_text(failure.error), 200)
        yield "failure", f"{_when(failure, 'failed_at')} {cause} {text}".rstrip()


def policy_values(policy: job_pb2.RetryPolicy) -> Iterator[tuple[str, str]]:
    """The fields of a retry policy that are set."""
    if policy.HasField("max_attempts"):
        yield "max_attempts", str(policy.max_attempts)
    if policy.HasField("initial_backoff"):
        yield "initial_backoff", span(policy.initial_backoff.ToTimedelta())
    if policy.HasField("multiplier"):
        yield "multiplier", f"{policy.multiplier:g}"
    if policy.HasField("max_backoff"):
        yield "max_backoff", span(policy.max_backoff.ToTimedelta())


def queue_row(
    queue: queue_service_pb2.Queue, depth: queue_service_pb2.Depth | None
) -> Sequence[Any]:
    """One line of a list of queues."""
    counts = [getattr(depth, name.lower()) if depth else "-" for name in QUEUE_HEADER[1:-1]]
    return (queue.name, *counts, "paused" if queue.paused else "")


def queue_card(
    queue: queue_service_pb2.Queue, depth: queue_service_pb2.Depth | None
) -> Iterator[tuple[str, Any]]:
    """A queue, its jobs by state, and its policy with the defaults filled in."""
    yield "queue", queue.name
    yield "leases", "paused" if queue.paused else "on"
    yield "created", _when(queue, "created_at")
    for name in QUEUE_HEADER[1:-1]:
        if depth is not None:
            yield name.lower(), getattr(depth, name.lower())
    set_here = dict(policy_values(queue.policy.retry_policy))
    if queue.policy.HasField("visibility_timeout"):
        set_here["visibility_timeout"] = span(queue.policy.visibility_timeout.ToTimedelta())
    for name, default in DEFAULTS.items():
        yield name, set_here.get(name, f"{default}  (default)")


def worker_row(worker: queue_service_pb2.WorkerSession) -> Sequence[Any]:
    """One line of a list of workers."""
    return (
        worker.session_id,
        worker.worker,
        cut(",".join(worker.queues)),
        worker.slots,
        worker.leased,
        "open" if worker.streaming else "none",
        _ago(worker, "opened_at"),
        span(worker.time_left.ToTimedelta()),
    )


def server_row(server: queue_service_pb2.Server) -> Sequence[Any]:
    """One line of a list of servers."""
    return (
        server.server_id,
        server.address,
        server.version,
        _ago(server, "started_at"),
        f"{_ago(server, 'last_seen_at')} ago",
        "leader" if server.leader else "",
    )


def cluster_line(cluster: queue_service_pb2.GetClusterResponse) -> str:
    """Who leads."""
    if not cluster.leader:
        return "no leader now"
    left = span(cluster.leader_time_left.ToTimedelta())
    return f"leader {cluster.leader}, term {cluster.term}, its lease lasts {left}"
