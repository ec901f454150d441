"""Requests into the domain's nouns, through the bounds of validate.py."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import repeat

import uuid_utils

from atlasqueue.v1 import job_pb2, job_service_pb2, queue_service_pb2, worker_service_pb2
from atlasqueue_server.domain.order import PRIORITIES
from atlasqueue_server.domain.workers import LeaseTerms
from atlasqueue_server.model import limits
from atlasqueue_server.model.columns import JOB_ID_BYTES, CompletedJobs, UniformJobs
from atlasqueue_server.model.errors import InvalidField, Violation
from atlasqueue_server.model.jobs import (
    NO_ERROR,
    DeadLetterFilter,
    HeldJob,
    JobError,
    NewJob,
    Outcome,
    OutcomeKind,
    QueuePolicy,
)
from atlasqueue_server.model.retry import NO_POLICY, RetryPolicy
from atlasqueue_server.rpc.codes import REASONS_IN
from atlasqueue_server.rpc.validate import Checker, are_job_ids, is_job_id, is_name

NIL_ID = bytes(JOB_ID_BYTES)
NO_NIL_ID = "must not be all zeros"
# As their _make, which is a call in Python for each.
_new_job_of = partial(tuple.__new__, NewJob)
_outcome_of = partial(tuple.__new__, Outcome)


def sound_job(job: job_pb2.NewJob) -> NewJob | None:
    """A job of only queue, id, kind, payload and priority, when nothing in it has to be refused."""
    if _is_rare(job):
        return None
    queue, job_id, kind, payload = job.queue, job.job_id, job.kind, job.payload
    priority = job.priority if job.HasField("priority") else limits.PRIORITY_DEFAULT
    if not (is_name(queue) and is_name(kind) and is_job_id(job_id)):
        return None
    if len(payload) > limits.PAYLOAD_BYTES_MAX or not 1 <= priority <= limits.PRIORITY_MAX:
        return None
    return NewJob(queue, job_id.lower(), kind, payload, priority)


def sound_jobs(jobs: Sequence[job_pb2.NewJob]) -> list[NewJob]:
    """The same for all of these, field by field instead of one by one; none when one of them is not such a job."""
    if any(_is_rare(job) for job in jobs):
        return []
    queues, kinds = [job.queue for job in jobs], [job.kind for job in jobs]
    job_ids, payloads = [job.job_id for job in jobs], [job.payload for job in jobs]
    # Not set it means the default; 0 that was set stays 0, and is refused.
    priorities = [
        job.priority or (0 if job.HasField("priority") else limits.PRIORITY_DEFAULT) for job in jobs
    ]
    sound = (
        all(map(is_name, {*queues, *kinds}))
        and are_job_ids(job_ids)
        and max(map(len, payloads), default=0) <= limits.PAYLOAD_BYTES_MAX
        and {*priorities}.issubset(PRIORITIES)
    )
    if not sound:
        return []
    ids = map(str.lower, job_ids)
    rest = repeat(None), repeat(None), repeat(None), repeat(NO_POLICY)
    return list(
        map(_new_job_of, zip(queues, ids, kinds, payloads, priorities, *rest, strict=False))
    )


def _is_rare(job: job_pb2.NewJob) -> bool:
    rare = job.HasField("run_at") or job.HasField("deadline") or job.HasField("retry_policy")
    return rare or bool(job.headers)


def new_job(check: Checker, job: job_pb2.NewJob) -> NewJob:
    """A job to store; its id is made here when the client made none."""
    headers, job_id = job.headers, job.job_id
    if headers:
        check.headers("headers", headers)
    return NewJob(
        check.name("queue", job.queue),
        check.job_id("job_id", job_id) if job_id else str(uuid_utils.uuid7()),
        check.name("kind", job.kind),
        check.data("payload", job.payload, limits.PAYLOAD_BYTES_MAX),
        check.integer("priority", job.priority, limits.PRIORITY_MIN, limits.PRIORITY_MAX)
        if job.HasField("priority")
        else limits.PRIORITY_DEFAULT,
        json.dumps(dict(headers), ensure_ascii=False) if headers else None,
        check.time("run_at", job.run_at, _latest()) if job.HasField("run_at") else None,
        check.milliseconds("deadline", job.deadline, limits.DEADLINE_S_MIN, limits.DEADLINE_S_MAX)
        if job.HasField("deadline")
        else None,
        retry_policy(check, "retry_policy.", job.retry_policy)
        if job.HasField("retry_policy")
        else NO_POLICY,
    )


def uniform_jobs(at: str, told: job_service_pb2.UniformJobs) -> UniformJobs | InvalidField:
    """Jobs that differ in id and payload only, or why none of them can be stored."""
    check, of_shared = Checker(at), Checker(f"{at}shared.")
    shared = new_job(of_shared, told.shared)
    if told.shared.job_id or told.shared.payload:
        check.refuse("shared", "must have neither job_id nor payload, which are each job's own")
    payloads, job_ids = list(told.payloads), told.job_ids
    if not payloads:
        check.refuse("payloads", "must hold at least 1 item")
    if len(job_ids) != JOB_ID_BYTES * len(payloads):
        check.refuse("job_ids", f"must hold {JOB_ID_BYTES} bytes for each of the payloads")
    if violations := [*of_shared.violations, *check.violations]:
        return InvalidField(violations)
    # Equal for all of a sort, but for the id that was made for it.
    return UniformJobs(shared._replace(job_id=""), job_ids, payloads)


def unsound_of_uniform(at: str, jobs: UniformJobs, start: int = 0) -> dict[int, InvalidField]:
    """By position: why one of them is refused. The first of them stands at `start`."""
    found: dict[int, list[Violation]] = {}
    for i in _nil_ids(jobs.job_ids):
        found[start + i] = [Violation(f"{at}job_ids[{start + i}]", NO_NIL_ID)]
    most = limits.PAYLOAD_BYTES_MAX
    if max(map(len, jobs.payloads)) > most:
        sizes = enumerate(map(len, jobs.payloads), start)
        for i, size in ((i, size) for i, size in sizes if size > most):
            bound = f"must be at most {most} bytes, is {size}"
            found.setdefault(i, []).append(Violation(f"{at}payloads[{i}]", bound))
    return {i: InvalidField(violations) for i, violations in found.items()}


def _nil_ids(job_ids: bytes) -> list[int]:
    """Where they stand."""
    if NIL_ID not in job_ids:
        return []
    places = range(len(job_ids) // JOB_ID_BYTES)
    return [i for i in places if job_ids.startswith(NIL_ID, i * JOB_ID_BYTES)]


def _latest() -> datetime:
    # Only a bound of ten years: whether a run_at has come is for the database's clock to say.
    return datetime.now(UTC) + timedelta(seconds=limits.RUN_AT_AHEAD_S_MAX)


def retry_policy(check: Checker, at: str, policy: job_pb2.RetryPolicy) -> RetryPolicy:
    """A retry policy; unset fields stay unset."""
    multiplier = policy.multiplier if policy.HasField("multiplier") else None
    least, most = limits.BACKOFF_MULTIPLIER_MIN, limits.BACKOFF_MULTIPLIER_MAX
    # Written so that NaN is refused.
    if multiplier is not None and not least <= multiplier <= most:
        check.refuse(f"{at}multiplier", f"must be {least:g} to {most:g}")
    return RetryPolicy(
        check.integer(
            f"{at}max_attempts",
            policy.max_attempts,
            limits.MAX_ATTEMPTS_MIN,
            limits.MAX_ATTEMPTS_MAX,
        )
        if policy.HasField("max_attempts")
        else None,
        check.milliseconds(
            f"{at}initial_backoff", policy.initial_backoff, 0, limits.BACKOFF_INITIAL_S_MAX
        )
        if policy.HasField("initial_backoff")
        else None,
        multiplier,
        check.milliseconds(f"{at}max_backoff", policy.max_backoff, 0, limits.BACKOFF_CAP_S_MAX)
        if policy.HasField("max_backoff")
        else None,
    )


def lease_terms(check: Checker, request: worker_service_pb2.LeaseRequest) -> LeaseTerms:
    """What a worker asks for with its stream."""
    return LeaseTerms(
        check.queues("queues", request.queues),
        check.integer("slots", request.slots, 1, limits.SLOTS_MAX),
        check.name("worker", request.worker),
        check.integer("session_id", request.session_id, 0, limits.INT64_MAX),
        check.integer("epoch", request.epoch, 0, limits.INT64_MAX),
        check.integer("last_fence", request.last_fence, 0, limits.INT64_MAX),
    )


def lease_once_terms(
    check: Checker, request: worker_service_pb2.LeaseOnceRequest
) -> tuple[LeaseTerms, float]:
    """What a worker asks for once, and how long it waits (s)."""
    most = limits.LEASE_ONCE_JOBS_MAX
    terms = LeaseTerms(
        check.queues("queues", request.queues),
        check.integer("max_jobs", request.max_jobs, 1, most) if request.max_jobs else 1,
        check.name("worker", request.worker),
        check.integer("session_id", request.session_id, 0, limits.INT64_MAX),
    )
    wait_ms = check.milliseconds("wait", request.wait, 0, limits.LEASE_ONCE_WAIT_S_MAX)
    return terms, wait_ms / 1000


def held_job(check: Checker, at: str, held: worker_service_pb2.HeldJob) -> HeldJob:
    """A job that a worker holds."""
    has_progress = held.HasField("progress")
    return HeldJob(
        check.name(f"{at}.queue", held.queue),
        check.job_id(f"{at}.job_id", held.job_id),
        check.integer(f"{at}.fence", held.fence, 1, limits.INT64_MAX),
        check.integer(
            f"{at}.progress.percent", held.progress.percent, 0, limits.PROGRESS_PERCENT_MAX
        )
        if has_progress
        else None,
        check.text(f"{at}.progress.note", held.progress.note, limits.PROGRESS_NOTE_BYTES_MAX)
        if has_progress
        else None,
        check.data(f"{at}.checkpoint", held.checkpoint, limits.CHECKPOINT_BYTES_MAX)
        if held.HasField("checkpoint")
        else None,
    )


def outcomes(check: Checker, told: Iterable[worker_service_pb2.JobOutcome]) -> list[Outcome]:
    """What a worker says of its leases. A fence may be named once: no two leases have the same."""
    # A repeated field makes its elements anew for each who goes through it.
    told = list(told)
    given = sound = _sound_completes([each for each in told if each.HasField("complete")])
    if len(sound) < len(told):
        # In their places among the others; if one of them was refused, all are looked at one by one.
        left = iter(sound)
        given = [
            next(left) if sound and each.HasField("complete") else _outcome(check, i, each)
            for i, each in enumerate(told)
        ]
    if len({outcome.fence for outcome in given}) < len(given):
        check.once("outcomes", (outcome.fence for outcome in given))
    return given


def completed_jobs(
    check: Checker, at: str, told: worker_service_pb2.CompletedJobs
) -> CompletedJobs:
    """Jobs of a queue that have succeeded without a result."""
    fences, job_ids = list(told.fences), told.job_ids
    check.name(f"{at}.queue", told.queue)
    if not fences:
        check.refuse(f"{at}.fences", "must hold at least 1 item")
    elif min(fences) < 1:
        check.refuse(f"{at}.fences", f"must be 1 to {limits.INT64_MAX} each")
    if len(job_ids) != JOB_ID_BYTES * len(fences):
        check.refuse(f"{at}.job_ids", f"must hold {JOB_ID_BYTES} bytes for each of the fences")
    for i in _nil_ids(job_ids):
        check.refuse(f"{at}.job_ids[{i}]", NO_NIL_ID)
    return CompletedJobs(told.queue, job_ids, fences)


def _sound_completes(told: Sequence[worker_service_pb2.JobOutcome]) -> list[Outcome]:
    """The outcomes that come by the thousand, field by field instead of one by one; none when one has to be refused."""
    queues = [each.queue for each in told]
    job_ids = [each.job_id for each in told]
    fences = [each.fence for each in told]
    results = [each.complete.result or None for each in told]
    sound = (
        all(map(is_name, set(queues)))
        and are_job_ids(job_ids)
        and min(fences, default=1) > 0
        and all(len(result) <= limits.RESULT_BYTES_MAX for result in results if result)
    )
    if not sound:
        return []
    ids = map(str.lower, job_ids)
    rest = repeat(OutcomeKind.COMPLETE), results, repeat(NO_ERROR), repeat(None)
    return list(map(_outcome_of, zip(queues, ids, fences, *rest, strict=False)))


def _outcome(check: Checker, i: int, told: worker_service_pb2.JobOutcome) -> Outcome:
    at = f"outcomes[{i}]"
    lease = (
        check.name(f"{at}.queue", told.queue),
        check.job_id(f"{at}.job_id", told.job_id),
        check.integer(f"{at}.fence", told.fence, 1, limits.INT64_MAX),
    )
    match told.WhichOneof("outcome"):
        case "complete":
            most = limits.RESULT_BYTES_MAX
            result = check.data(f"{at}.complete.result", told.complete.result, most)
            return Outcome(*lease, OutcomeKind.COMPLETE, result or None)
        case "fail":
            return _fail(check, f"{at}.fail", lease, told.fail)
        case "reject":
            error = job_error(check, f"{at}.reject.error", told.reject.error)
            return Outcome(*lease, OutcomeKind.REJECT, None, error)
        case "snooze":
            if not told.snooze.HasField("delay"):
                check.refuse(f"{at}.snooze.delay", "is required")
            delay = check.milliseconds(
                f"{at}.snooze.delay", told.snooze.delay, 0, limits.DELAY_S_MAX
            )
            return Outcome(*lease, OutcomeKind.SNOOZE, delay_ms=delay)
        case "release":
            return Outcome(*lease, OutcomeKind.RELEASE)
        case "cancel":
            return Outcome(*lease, OutcomeKind.CANCEL)
        case "unknown_kind":
            return Outcome(*lease, OutcomeKind.UNKNOWN_KIND)
        case _:
            check.refuse(f"{at}.outcome", "exactly one outcome is required")
            return Outcome(*lease, OutcomeKind.RELEASE)


def _fail(
    check: Checker, at: str, lease: tuple[str, str, int], fail: worker_service_pb2.Fail
) -> Outcome:
    error = job_error(check, f"{at}.error", fail.error)
    delay = (
        check.milliseconds(f"{at}.retry_after", fail.retry_after, 0, limits.DELAY_S_MAX)
        if fail.HasField("retry_after")
        else None
    )
    return Outcome(*lease, OutcomeKind.FAIL, None, error, delay)


def job_error(check: Checker, at: str, error: job_pb2.JobError) -> JobError:
    """What went wrong; empty texts are none."""
    if error == job_pb2.JobError():
        return NO_ERROR
    return JobError(
        check.text(f"{at}.type", error.type, limits.ERROR_TYPE_BYTES_MAX) or None,
        check.text(f"{at}.message", error.message, limits.ERROR_MESSAGE_BYTES_MAX) or None,
        check.text(f"{at}.stack", error.stack, limits.ERROR_STACK_BYTES_MAX) or None,
    )


def queue_policy(check: Checker, at: str, policy: queue_service_pb2.QueuePolicy) -> QueuePolicy:
    """A queue's policy; unset fields stay unset."""
    return QueuePolicy(
        retry_policy(check, f"{at}retry_policy.", policy.retry_policy),
        check.milliseconds(
            f"{at}visibility_timeout",
            policy.visibility_timeout,
            limits.VISIBILITY_TIMEOUT_S_MIN,
            limits.VISIBILITY_TIMEOUT_S_MAX,
        )
        if policy.HasField("visibility_timeout")
        else None,
    )


def dead_letter_filter(
    check: Checker, at: str, dead: queue_service_pb2.DeadLetterFilter
) -> DeadLetterFilter:
    """Which dead letters."""
    check.enum(f"{at}.reason", dead.reason, job_pb2.DeadLetterReason.DESCRIPTOR)
    return DeadLetterFilter(
        check.optional_name(f"{at}.kind", dead.kind) or None,
        REASONS_IN.get(dead.reason),
        check.time(f"{at}.died_before", dead.died_before) if dead.HasField("died_before") else None,
    )
