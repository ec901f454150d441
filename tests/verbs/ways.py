"""Every way to ask for a verb, where it may be asked, and what is answered where it is refused.

A verb may have several ways: fail is reported by a worker or brought about by the job's deadline. A
way names the places that it moves a job from and all places that it may move it to; the walk proves
that the ways of a verb together are what model/states.TRANSITIONS says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from atlasqueue.v1 import job_pb2, job_service_pb2, queue_service_pb2, worker_service_pb2
from atlasqueue_server.model.states import Gone, Place, State, Verb
from atlasqueue_server.scheduler.expire import Expire, FailOverdue
from atlasqueue_server.scheduler.promote import Promote
from atlasqueue_server.scheduler.prune import Prune
from tests.factories import Standing
from tests.verbs.conftest import Bench

PLACES: tuple[Place, ...] = (Gone.GONE, *State)
Act = Callable[[Bench, Standing], Awaitable[str]]


@dataclass(frozen=True)
class Way:
    """One way to ask for a verb; `act` returns the answer as a word."""

    name: str
    verb: Verb
    act: Act
    moves: dict[Place, tuple[Place, ...]]
    # The answer where it moves, which may name the place that the job came to.
    moved: str = "OK"
    # The answer elsewhere; `otherwise` where a place is not listed.
    refused: dict[Place, str] = field(default_factory=dict)
    otherwise: str = "OK"

    def answer(self, place: Place, result: Place | None) -> str:
        """What the contract promises to answer."""
        if result is not None:
            return self.moved.format(result.value)
        return self.refused.get(place, self.otherwise)


async def reason(call: Awaitable[object]) -> str:
    """OK, or the status and the machine-readable reason."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        metadata = error.trailing_metadata()
        assert metadata is not None
        status = Status.FromString(dict(metadata)["grpc-status-details-bin"])  # type: ignore[arg-type]
        info = ErrorInfo()
        assert any(detail.Unpack(info) for detail in status.details)
        return f"{error.code().name} {info.reason}"
    return "OK"


async def enqueue(bench: Bench, at: Standing, *, ahead: bool = False, other: bool = False) -> str:
    """The job's own id and body again, or another body; `ahead` in the future."""
    job = job_pb2.NewJob(queue=at.queue, job_id=at.job_id, kind=at.job.kind, payload=at.job.payload)
    if other:
        job.payload = b"to: grace"
    if ahead:
        job.run_at.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    return await reason(bench.server.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=job)))


async def promote(bench: Bench, at: Standing) -> str:
    """A tick of the scheduler, the job being due if it is scheduled."""
    await Promote(bench.database, bench.server.application.signals).tick(bench.term)
    return "OK"


async def lease(bench: Bench, at: Standing) -> str:
    """Another worker asks once."""
    request = worker_service_pb2.LeaseOnceRequest(queues=[at.queue], max_jobs=5, worker="w2")
    answer = await bench.server.workers.LeaseOnce(request)
    for job in answer.jobs:
        assert job.job_id == at.job_id
        assert job.fence > at.fence
    return f"{len(answer.jobs)} jobs"


async def heartbeat(bench: Bench, at: Standing, *, holds: bool) -> str:
    """The worker that had the last lease lives, and holds the job or does not."""
    held = [worker_service_pb2.HeldJob(queue=at.queue, job_id=at.job_id, fence=at.fence)]
    request = worker_service_pb2.HeartbeatRequest(
        session_id=at.session_id, epoch=1, held=held if holds else [], last_fence=at.fence
    )
    answer = await bench.server.workers.Heartbeat(request)
    for lost in answer.lost:
        assert (lost.queue, lost.job_id, lost.fence) == (at.queue, at.job_id, at.fence)
    return "LOST" if answer.lost else "OK"


async def reopen(bench: Bench, at: Standing) -> str:
    """The worker opens its stream again, and the lease's event never reached it."""
    await bench.sql(
        "update atlasqueue.sessions set streaming = true where session_id = %(id)s",
        id=at.session_id,
    )
    # Of another queue: what this stream itself might lease is no part of the step.
    request = worker_service_pb2.LeaseRequest(
        queues=[f"{at.queue}-idle"],
        slots=1,
        worker="w1",
        session_id=at.session_id,
        epoch=2,
        last_fence=at.fence - 1,
    )
    stream = bench.server.workers.Lease(request)
    opened = await stream.read()
    assert opened.WhichOneof("event") == "session_opened"
    stream.cancel()
    return "OK"


OUTCOMES = {
    "complete": {"complete": worker_service_pb2.Complete(result=b"done")},
    "fail": {"fail": worker_service_pb2.Fail(error=job_pb2.JobError(message="no"))},
    "reject": {"reject": worker_service_pb2.Reject(error=job_pb2.JobError(message="no"))},
    "snooze": {"snooze": worker_service_pb2.Snooze(delay={"seconds": 60})},
    "release": {"release": worker_service_pb2.Release()},
    "cancel": {"cancel": worker_service_pb2.Cancel()},
    "unknown_kind": {"unknown_kind": worker_service_pb2.UnknownKind()},
}


async def report(bench: Bench, at: Standing, *, outcome: str) -> str:
    """The worker of the last lease reports."""
    told = worker_service_pb2.JobOutcome(
        queue=at.queue, job_id=at.job_id, fence=at.fence, **OUTCOMES[outcome]
    )
    request = worker_service_pb2.ReportRequest(session_id=at.session_id, outcomes=[told])
    (result,) = (await bench.server.workers.Report(request)).results
    assert (result.job_id, result.fence) == (at.job_id, at.fence)
    name = worker_service_pb2.ReportStatus.Name(result.status).removeprefix("REPORT_STATUS_")
    if not result.state:
        return name
    return f"{name} {job_pb2.JobState.Name(result.state).removeprefix('JOB_STATE_').lower()}"


async def deadline(bench: Bench, at: Standing) -> str:
    """A tick of the scheduler, the run being overdue if the job is leased."""
    await FailOverdue(bench.database, bench.server.application.signals).tick(bench.term)
    return "OK"


async def expire(bench: Bench, at: Standing) -> str:
    """A tick of the scheduler, the worker of the last lease having gone silent."""
    await Expire(bench.database, bench.server.application.signals).tick(bench.term)
    return "OK"


async def cancel(bench: Bench, at: Standing) -> str:
    """The producer cancels."""
    request = job_service_pb2.CancelJobRequest(queue=at.queue, job_id=at.job_id)
    call = bench.server.jobs.CancelJob(request)
    refused = await reason(call)
    if refused != "OK":
        return refused
    return job_pb2.JobState.Name((await call).state).removeprefix("JOB_STATE_").lower()


async def cancel_by_filter(bench: Bench, at: Standing) -> str:
    """An operator cancels what fits, having looked first."""
    request = job_service_pb2.CancelJobsRequest(queue=at.queue, kind=at.job.kind, dry_run=True)
    planned = await bench.server.jobs.CancelJobs(request)
    request.dry_run = False
    done = await bench.server.jobs.CancelJobs(request)
    assert done == planned
    assert not done.next_page_token
    if not done.cancelled_job_ids and not done.requested_job_ids:
        return "nothing"
    assert [*done.cancelled_job_ids, *done.requested_job_ids] == [at.job_id]
    return "cancelled" if done.cancelled_job_ids else "leased"


async def redrive(bench: Bench, at: Standing) -> str:
    """An operator redrives the id."""
    request = queue_service_pb2.RedriveDeadLettersRequest(queue=at.queue, job_ids=[at.job_id])
    return f"{(await bench.server.queues.RedriveDeadLetters(request)).redriven} jobs"


async def purge(bench: Bench, at: Standing) -> str:
    """An operator purges the id."""
    request = queue_service_pb2.PurgeDeadLettersRequest(queue=at.queue, job_ids=[at.job_id])
    return f"{(await bench.server.queues.PurgeDeadLetters(request)).purged} jobs"


async def prune(bench: Bench, at: Standing) -> str:
    """A tick of the scheduler, everything that is known of the job being old."""
    while await Prune(bench.database).tick(bench.term):
        pass
    return "OK"


def _reported(
    verb: Verb, outcome: str, results: tuple[Place, ...], repeated: tuple[Place, ...]
) -> Way:
    """A report: ALREADY_APPLIED where the last lease has ended with this very outcome."""
    return Way(
        f"report_{outcome}",
        verb,
        partial(report, outcome=outcome),
        {State.LEASED: results},
        "APPLIED {}",
        {Gone.GONE: "NOT_FOUND"} | dict.fromkeys(repeated, "ALREADY_APPLIED"),
        "STALE",
    )


CANCELLED = State.CANCELLED
WAYS = (
    Way("enqueue", Verb.ENQUEUE, enqueue, {Gone.GONE: (State.READY,)}),
    Way(
        "enqueue_ahead",
        Verb.ENQUEUE,
        partial(enqueue, ahead=True),
        {Gone.GONE: (State.SCHEDULED,)},
        otherwise="ALREADY_EXISTS JOB_ID_CONFLICT",
    ),
    Way(
        "enqueue_other_body",
        Verb.ENQUEUE,
        partial(enqueue, other=True),
        {Gone.GONE: (State.READY,)},
        otherwise="ALREADY_EXISTS JOB_ID_CONFLICT",
    ),
    Way("promote", Verb.PROMOTE, promote, {State.SCHEDULED: (State.READY,)}),
    Way("lease", Verb.LEASE, lease, {State.READY: (State.LEASED,)}, "1 jobs", otherwise="0 jobs"),
    Way(
        "heartbeat",
        Verb.HEARTBEAT,
        partial(heartbeat, holds=True),
        {State.LEASED: (State.LEASED,)},
        otherwise="LOST",
    ),
    _reported(Verb.COMPLETE, "complete", (State.SUCCEEDED,), (State.SUCCEEDED,)),
    # A job whose cancel was requested ends as cancelled whatever its worker reports but complete; snooze,
    # release and cancel leave no other trace, so of them a repeat cannot be told from another outcome.
    _reported(Verb.FAIL, "fail", (State.SCHEDULED, State.DEAD, CANCELLED), (State.SCHEDULED,)),
    _reported(Verb.REJECT, "reject", (State.DEAD, CANCELLED), (State.DEAD,)),
    _reported(Verb.SNOOZE, "snooze", (State.SCHEDULED, CANCELLED), (CANCELLED,)),
    _reported(Verb.RELEASE, "release", (State.READY, CANCELLED), (State.READY, CANCELLED)),
    _reported(
        Verb.UNKNOWN_KIND,
        "unknown_kind",
        (State.SCHEDULED, State.DEAD, CANCELLED),
        (),
    ),
    _reported(Verb.CANCEL, "cancel", (CANCELLED,), (CANCELLED,)),
    Way(
        "deadline",
        Verb.FAIL,
        deadline,
        {State.LEASED: (State.SCHEDULED, State.DEAD, CANCELLED)},
    ),
    Way("reopen", Verb.RELEASE, reopen, {State.LEASED: (State.READY, CANCELLED)}),
    Way(
        "reconcile",
        Verb.RECONCILE,
        partial(heartbeat, holds=False),
        {State.LEASED: (State.READY, CANCELLED)},
    ),
    Way("expire", Verb.EXPIRE, expire, {State.LEASED: (State.SCHEDULED, State.DEAD, CANCELLED)}),
    Way(
        "cancel",
        Verb.CANCEL,
        cancel,
        {
            State.SCHEDULED: (CANCELLED,),
            State.READY: (CANCELLED,),
            State.LEASED: (State.LEASED,),
        },
        "{}",
        {
            Gone.GONE: "NOT_FOUND JOB_NOT_FOUND",
            State.DEAD: "FAILED_PRECONDITION JOB_DEAD",
        },
        "FAILED_PRECONDITION JOB_FINAL",
    ),
    Way(
        "cancel_by_filter",
        Verb.CANCEL,
        cancel_by_filter,
        {
            State.SCHEDULED: (CANCELLED,),
            State.READY: (CANCELLED,),
            State.LEASED: (State.LEASED,),
        },
        "{}",
        otherwise="nothing",
    ),
    Way(
        "redrive", Verb.REDRIVE, redrive, {State.DEAD: (State.READY,)}, "1 jobs", otherwise="0 jobs"
    ),
    Way("purge", Verb.PURGE, purge, {State.DEAD: (Gone.GONE,)}, "1 jobs", otherwise="0 jobs"),
    Way(
        "prune",
        Verb.PRUNE,
        prune,
        dict.fromkeys((State.SUCCEEDED, State.CANCELLED, State.DEAD), (Gone.GONE,)),
    ),
)
