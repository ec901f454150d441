"""Report.completed: jobs that have succeeded without a result, told in columns, are judged as they are one by one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import httpx
import psycopg
import pytest
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from prometheus_client.parser import text_string_to_metric_families

from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue_server.domain import watch as watching
from atlasqueue_server.metrics.names import UNKNOWN
from atlasqueue_server.model import limits
from tests.factories import execute
from tests.plugins.server import RunningServer
from tests.rpc.columns import (
    QUEUE,
    all_of,
    completed,
    enqueue,
    enqueue_and_lease,
    lease,
    outcome,
    stream,
)

OTHER = "other"
APPLIED = wire.REPORT_STATUS_APPLIED
REPEATED = wire.REPORT_STATUS_ALREADY_APPLIED
STALE = wire.REPORT_STATUS_STALE
NOT_FOUND = wire.REPORT_STATUS_NOT_FOUND
DONE = {"complete": wire.Complete()}


async def report(server: RunningServer, **told: Any) -> wire.ReportResponse:
    """One call."""
    response: wire.ReportResponse = await server.workers.Report(wire.ReportRequest(**told))
    return response


async def places(url: str) -> dict[str, list[Any]]:
    """By id: in which table a job stands, with its fence, and its result if it has finished."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await execute(
            connection,
            "select job_id::text, 'leased', fence, null::bytea from atlasqueue.leased"
            " union all select job_id::text, state::text, fence, result from atlasqueue.finished"
            " union all select job_id::text, 'ready', fence, null from atlasqueue.ready"
            " union all select job_id::text, 'dead', fence, null from atlasqueue.dead_letters",
        )
    return {job_id: rest for job_id, *rest in rows}


def succeeded(jobs: Sequence[wire.LeasedJob]) -> dict[str, list[Any]]:
    """Where these stand when they have succeeded without a result."""
    return {job.job_id: ["s", job.fence, None] for job in jobs}


def named(result: wire.CompletedResult) -> list[tuple[str, int, int, int]]:
    """Those that were not applied."""
    return [(each.job_id, each.fence, each.status, each.state) for each in result.others]


async def test_completed_jobs_are_stored_and_repeats_are_named(
    server: RunningServer, migrated_database_url: str
) -> None:
    jobs = await enqueue_and_lease(server, 20)
    told = completed(jobs)
    response = await report(server, completed=[told])
    assert (list(response.results), len(response.completed)) == ([], 1)
    assert named(response.completed[0]) == []
    assert await places(migrated_database_url) == succeeded(jobs)
    repeated = await report(server, completed=[told])
    assert named(repeated.completed[0]) == [(job.job_id, job.fence, REPEATED, 0) for job in jobs]
    # Repeats among others, in columns and then one by one.
    more = await enqueue_and_lease(server, 2)
    mixed = await report(server, completed=[completed([more[0], jobs[3], more[1], jobs[5]])])
    assert [(each.fence, each.status) for each in mixed.completed[0].others] == [
        (jobs[3].fence, REPEATED),
        (jobs[5].fence, REPEATED),
    ]
    alone = await report(server, outcomes=[outcome(job, **DONE) for job in (*jobs, *more)])
    assert {result.status for result in alone.results} == {REPEATED}
    assert await places(migrated_database_url) == succeeded([*jobs, *more])


async def test_what_is_stale_or_unknown_is_named_and_moves_nothing(
    server: RunningServer, migrated_database_url: str
) -> None:
    jobs = await enqueue_and_lease(server, 4)
    first, second, third, untold = jobs
    # Leased again since.
    await report(server, outcomes=[outcome(first, release=wire.Release())])
    (again,) = (await lease(server, 1)).jobs
    assert again.job_id == first.job_id
    nobody = wire.LeasedJob(queue=QUEUE, job_id=str(uuid.uuid4()), fence=10**9)
    # The id of one job with the fence of another.
    crossed = wire.LeasedJob(queue=QUEUE, job_id=third.job_id, fence=untold.fence)
    response = await report(server, completed=[completed([second, first, nobody, crossed])])
    assert named(response.completed[0]) == [
        (first.job_id, first.fence, STALE, 0),
        (nobody.job_id, nobody.fence, NOT_FOUND, 0),
        (crossed.job_id, crossed.fence, STALE, 0),
    ]
    # And under the name of another queue nothing is found.
    response = await report(server, completed=[completed([third], OTHER)])
    assert named(response.completed[0]) == [(third.job_id, third.fence, NOT_FOUND, 0)]
    assert await places(migrated_database_url) == succeeded([second]) | {
        job.job_id: ["leased", job.fence, None] for job in (again, third, untold)
    }


async def test_columns_of_two_queues_and_outcomes_in_one_call(
    server: RunningServer, migrated_database_url: str
) -> None:
    ours = await enqueue_and_lease(server, 6)
    theirs = await enqueue_and_lease(server, 4, OTHER)
    await report(server, completed=[completed(theirs[:1], OTHER)])
    response = await report(
        server,
        outcomes=[
            outcome(ours[0], complete=wire.Complete(result=b"ok")),
            outcome(ours[1], reject=wire.Reject()),
        ],
        # One queue may come twice.
        completed=[completed(theirs, OTHER), completed(ours[2:4]), completed(ours[4:])],
    )
    states = [(result.fence, result.status, result.state) for result in response.results]
    assert states == [
        (ours[0].fence, APPLIED, job_pb2.JOB_STATE_SUCCEEDED),
        (ours[1].fence, APPLIED, job_pb2.JOB_STATE_DEAD),
    ]
    # Each under its own queue.
    assert list(map(named, response.completed)) == [
        [(theirs[0].job_id, theirs[0].fence, REPEATED, 0)],
        [],
        [],
    ]
    assert await places(migrated_database_url) == succeeded([*ours[2:], *theirs]) | {
        ours[0].job_id: ["s", ours[0].fence, b"ok"],
        ours[1].job_id: ["dead", ours[1].fence, None],
    }


async def test_more_than_a_commit_takes(server: RunningServer, migrated_database_url: str) -> None:
    """Cut into several: each answer belongs to its job also behind a cut."""
    ids = await enqueue(server, 2500)
    jobs = [job for count in (1000, 1000, 500) for job in (await lease(server, count)).jobs]
    late = [jobs[0], jobs[999], jobs[1000], jobs[2499]]
    await report(server, completed=[completed(late)])
    response = await report(server, completed=[completed(jobs)])
    assert named(response.completed[0]) == [(job.job_id, job.fence, REPEATED, 0) for job in late]
    assert await places(migrated_database_url) == succeeded(jobs)
    assert sorted(job.job_id for job in jobs) == ids


# -- what is refused ----------------------------------------------------------------------------------

Build = Callable[[Sequence[wire.LeasedJob]], dict[str, Any]]


def column(**fields: Any) -> Build:
    """A sound column but for these fields."""

    def build(jobs: Sequence[wire.LeasedJob]) -> dict[str, Any]:
        told = completed(jobs)
        for name, value in fields.items():
            told.ClearField(name)
            told.MergeFrom(wire.CompletedJobs(**{name: value}))
        return {"completed": [told]}

    return build


def _too_many(jobs: Sequence[wire.LeasedJob], outcomes: int) -> dict[str, Any]:
    fences = range(10**6, 10**6 + limits.BATCH_ITEMS_MAX + 1 - outcomes)
    many = wire.CompletedJobs(queue=QUEUE, job_ids=b"i" * 16 * len(fences), fences=fences)
    return {"outcomes": [outcome(job, **DONE) for job in jobs[:outcomes]], "completed": [many]}


REFUSED: dict[str, tuple[Build, list[str]]] = {
    "no job": (column(job_ids=b"", fences=[]), ["completed[0].fences"]),
    "empty": (lambda _: {"completed": [wire.CompletedJobs()]}, ["completed[0].queue", "completed[0].fences"]),
    "empty among sound ones": (
        lambda jobs: {"completed": [completed(jobs), wire.CompletedJobs(queue=QUEUE)]},
        ["completed[1].fences"],
    ),
    "no queue": (column(queue=""), ["completed[0].queue"]),
    "no name of a queue": (column(queue="a b"), ["completed[0].queue"]),
    "fence 0": (column(fences=[1, 0, 2]), ["completed[0].fences"]),
    "a fence below 0": (column(fences=[1, -1, 2]), ["completed[0].fences"]),
    "a byte too few": (column(job_ids=b"i" * 47), ["completed[0].job_ids"]),
    "an id too many": (column(job_ids=b"i" * 64), ["completed[0].job_ids"]),
    "a nil id": (column(job_ids=b"i" * 16 + bytes(16) + b"i" * 16), ["completed[0].job_ids[1]"]),
    "ids without fences": (column(fences=[]), ["completed[0].fences", "completed[0].job_ids"]),
    "a lease twice in a column": (lambda jobs: {"completed": [completed([*jobs, jobs[0]])]}, ["completed"]),
    "a lease in two columns": (
        lambda jobs: {"completed": [completed(jobs), completed(jobs[:1])]},
        ["completed"],
    ),
    "a lease in both forms": (
        lambda jobs: {"completed": [completed(jobs)], "outcomes": [outcome(jobs[2], **DONE)]},
        ["completed"],
    ),
    "an outcome twice beside a column": (
        lambda jobs: {
            "completed": [completed(jobs[:1])],
            "outcomes": [outcome(jobs[2], **DONE), outcome(jobs[2], **DONE)],
        },
        ["outcomes[1]"],
    ),
    "a bad outcome beside a sound column": (
        lambda jobs: {"completed": [completed(jobs[:2])], "outcomes": [outcome(jobs[2])]},
        ["outcomes[0].outcome"],
    ),
    "a bad session": (
        lambda jobs: {"completed": [completed(jobs)], "session_id": -1},
        ["session_id"],
    ),
    "too many": (lambda jobs: _too_many(jobs, 0), ["outcomes and completed"]),
    "too many over both": (lambda jobs: _too_many(jobs, 3), ["outcomes and completed"]),
    "too many columns": (
        lambda _: {"completed": [wire.CompletedJobs()] * (limits.BATCH_ITEMS_MAX + 1)},
        ["completed"],
    ),
}  # fmt: skip


async def test_a_bad_column_is_refused_by_name_and_nothing_is_stored(
    server: RunningServer, migrated_database_url: str
) -> None:
    """How it showed: an outcome twice beside a sound column was said to be a fault of the column, too."""
    jobs = await enqueue_and_lease(server, 3)
    before = await places(migrated_database_url)
    for how, (build, fields) in REFUSED.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await report(server, **build(jobs))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, how
        assert violated(caught.value) == fields, how
    assert await places(migrated_database_url) == before
    # And just not too many are taken.
    response = await report(server, **_too_many(jobs, 3) | {"outcomes": []})
    assert len(response.completed[0].others) == limits.BATCH_ITEMS_MAX - 2
    assert await places(migrated_database_url) == before


def violated(error: grpc.aio.AioRpcError) -> list[str]:
    """The fields that a refusal names."""
    details: Any = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    broken = BadRequest()
    assert any(detail.Unpack(broken) for detail in Status.FromString(details).details)
    return [violation.field for violation in broken.field_violations]


# -- what goes on beside it ---------------------------------------------------------------------------


async def test_slots_are_free_again(server: RunningServer) -> None:
    await enqueue(server, 6)
    async with stream(server, 2, uniform=True) as reading:
        for _ in range(3):
            jobs = [job for event in await reading.jobs(2) for job in all_of(event)]
            await report(server, session_id=reading.session_id, completed=[completed(jobs)])


@pytest.mark.parametrize("other", ["completed", "outcomes", "fail"])
async def test_of_two_reports_of_a_lease_at_once_one_is_applied(
    server: RunningServer, migrated_database_url: str, other: str
) -> None:
    jobs = await enqueue_and_lease(server, 30)
    verb = DONE if other == "outcomes" else {"reject": wire.Reject()}
    told = (
        {"completed": [completed(jobs[::-1])]}
        if other == "completed"
        else {"outcomes": [outcome(job, **verb) for job in jobs[::-1]]}
    )
    calls = await asyncio.gather(
        *(report(server, **each) for each in ({"completed": [completed(jobs)]}, told) * 3)
    )
    stored = await places(migrated_database_url)
    statuses: dict[int, list[tuple[str, int]]] = {job.fence: [] for job in jobs}
    for call in calls:
        others = {each.fence: each.status for result in call.completed for each in result.others}
        for job in jobs if call.completed else ():
            statuses[job.fence].append(("s", others.get(job.fence, APPLIED)))
        for result in call.results:
            statuses[result.fence].append(("dead" if other == "fail" else "s", result.status))
    for job in jobs:
        place, fence, _ = stored[job.job_id]
        assert fence == job.fence
        of_job = statuses[job.fence]
        assert sorted(status for _, status in of_job if status == APPLIED) == [APPLIED]
        # Whoever told what is stored had it applied, now or before; whoever told something else is late.
        for verb_place, status in of_job:
            assert (status in (APPLIED, REPEATED)) == (verb_place == place), (of_job, place)
            assert status in (APPLIED, REPEATED, STALE)


async def test_a_complete_wins_over_a_cancel_request(
    server: RunningServer, migrated_database_url: str
) -> None:
    jobs = await enqueue_and_lease(server, 20)
    for job in jobs[:3]:
        asked = job_service_pb2.CancelJobRequest(queue=QUEUE, job_id=job.job_id)
        await server.jobs.CancelJob(asked)
    response = await report(server, completed=[completed(jobs)])
    assert named(response.completed[0]) == []
    assert await places(migrated_database_url) == succeeded(jobs)


async def test_who_watches_sees_jobs_that_are_completed_in_columns(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = await enqueue_and_lease(server, 20)
    # Only the report itself can tell in time.
    monkeypatch.setattr(watching, "POLL_S", 3600.0)
    request = job_service_pb2.WatchJobRequest(queue=QUEUE, job_id=jobs[7].job_id)
    watch = server.jobs.WatchJob(request, timeout=20)
    assert (await watch.read()).job.state == job_pb2.JOB_STATE_LEASED
    await report(server, completed=[completed(jobs)])
    assert (await watch.read()).job.state == job_pb2.JOB_STATE_SUCCEEDED
    watch.cancel()


async def test_completed_jobs_are_counted(server: RunningServer) -> None:
    """How it showed: a call with outcomes and columns of two queues counted as three calls of Report."""
    ours = await enqueue_and_lease(server, 6)
    theirs = await enqueue_and_lease(server, 4, OTHER)
    told = {
        "outcomes": [outcome(ours[0], **DONE)],
        "completed": [completed(ours[1:]), completed(theirs, OTHER)],
    }
    await report(server, **told)
    await report(server, **told)
    # Columns alone: another way to the same counters.
    alone = await enqueue_and_lease(server, 3)
    await report(server, completed=[completed(alone[:2])])
    await report(server, completed=[completed(alone)])
    nobody = wire.LeasedJob(queue=QUEUE, job_id=str(uuid.uuid4()), fence=10**9)
    await report(server, completed=[completed([nobody])])
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{server.http_address}/metrics")).text
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "_bucket" not in sample.name
    }
    for queue, count, repeated in (QUEUE, 9, 8), (OTHER, 4, 4):
        assert values["atlasqueue_jobs_completed_total", *sorted((queue, "k"))] == count
        assert values["atlasqueue_job_run_seconds_count", *sorted((queue, "k"))] == count
        assert values["atlasqueue_reports_repeated_total", queue] == repeated
    # None is counted as of a kind that nobody knows any more.
    assert not [key for key in values if key[0].startswith("atlasqueue_jobs_") and UNKNOWN in key]
    assert values["atlasqueue_reports_refused_total", *sorted((QUEUE, "not_found"))] == 1
    assert values["atlasqueue_report_batch_jobs_count",] == 5
    assert values["atlasqueue_report_batch_jobs_sum",] == 26
