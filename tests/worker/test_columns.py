"""Jobs that come in columns: what their handlers see, and how they go back."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import structlog

from atlasqueue.errors import (
    AtlasQueueError,
    InternalError,
    InvalidField,
    MessageTooLarge,
    Unavailable,
)
from atlasqueue.jobs import to_duration
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue_worker import App, JobContext, LeaseState, Worker, WorkerMetrics
from atlasqueue_worker.held import Held
from atlasqueue_worker.reporter import REFUSED, Reporter
from atlasqueue_worker.session import Session
from tests.factories import execute
from tests.plugins.server import RunningServer
from tests.rpc.columns import enqueue
from tests.waiting import eventually_so
from tests.worker import scripted
from tests.worker.scripted import (
    WITHIN_S,
    Scripted,
    id_of,
    job,
    jobs_together,
    leased,
    opened,
    uniform,
)

MANY = range(1, 21)


class Told:
    """A reporter of held jobs, and what it was answered: by fence how often a job was completed, and the others' outcomes
    with their statuses."""

    def __init__(self, addresses: Sequence[str], jobs: Sequence[JobContext]) -> None:
        self.completed: list[int] = []
        self.others: list[tuple[int, str | None, int]] = []
        self.held = Held()
        self.held.add(jobs)
        self.reporter = Reporter(
            addresses, None, Session(), self.held, self._answered, self._were_completed
        )

    def _answered(
        self, job: JobContext, outcome: wire.JobOutcome | None, result: wire.ReportResult
    ) -> None:
        verb = outcome.WhichOneof("outcome") if outcome else None
        self.others.append((job.fence, verb, result.status))

    def _were_completed(self, jobs: Sequence[JobContext]) -> None:
        self.completed += [job.fence for job in jobs]

    @property
    def still_held(self) -> list[int]:
        """The fences of what is held."""
        return [job.fence for job in self.held.snapshot()[0]]


@asynccontextmanager
async def telling(
    *servers: Scripted, jobs: Sequence[JobContext], result_of: Sequence[int] = ()
) -> AsyncIterator[Told]:
    """All of the jobs have ended, those of `result_of` with a result; goes on when the server has answered."""
    async with scripted.serving(*servers) as addresses:
        told = Told(addresses, jobs)
        running = asyncio.create_task(told.reporter.run())
        for each in jobs:
            result = wire.JobOutcome(complete=wire.Complete(result=b"ok"))
            told.reporter.report(each, result if each.fence in result_of else None)
        async with asyncio.timeout(WITHIN_S):
            await told.reporter.flush()
        yield told
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def alone(server: Scripted) -> list[list[int]]:
    """The fences of each report's outcomes."""
    return [[outcome.fence for outcome in outcomes] for outcomes in server.reports]


APPLIED = wire.REPORT_STATUS_APPLIED


async def test_what_came_in_columns_and_returned_nothing_goes_back_in_columns() -> None:
    server = Scripted()
    jobs = [*jobs_together(*range(1, 9)), *jobs_together(11, 12, queue="p"), job(9)]
    async with telling(server, jobs=jobs, result_of=[2, 12]) as told:
        assert server.columns == [{"q": [1, 3, 4, 5, 6, 7, 8], "p": [11]}]
        assert alone(server) == [[2, 12, 9]]
        sent = {o.fence: (o.queue, o.job_id, o.complete.result) for o in server.reports[0]}
        assert sent == {
            2: ("q", str(id_of(2)), b"ok"),
            12: ("p", str(id_of(12)), b"ok"),
            9: ("q", "j9", b""),
        }
        assert told.completed == [1, 3, 4, 5, 6, 7, 8, 11]
        assert told.others == [
            (2, "complete", APPLIED), (12, "complete", APPLIED), (9, None, APPLIED)
        ]  # fmt: skip
        assert told.still_held == []


async def test_those_that_were_not_applied_are_answered_one_by_one() -> None:
    server = Scripted()
    server.statuses = {
        2: wire.REPORT_STATUS_STALE,
        5: wire.REPORT_STATUS_ALREADY_APPLIED,
        6: wire.REPORT_STATUS_NOT_FOUND,
    }
    async with telling(server, jobs=jobs_together(*range(1, 8))) as told:
        assert told.completed == [1, 3, 4, 7]
        assert told.others == [(fence, None, status) for fence, status in server.statuses.items()]
        assert (told.still_held, len(server.reports)) == ([], 1)


@pytest.mark.parametrize("beside", [True, False], ids=["passes them over", "refuses the report"])
async def test_a_server_that_is_older_than_columns_is_told_each_job_once(beside: bool) -> None:
    server = Scripted()
    server.reads_columns = False
    jobs = [*jobs_together(*MANY), *([job(99)] if beside else [])]
    async with telling(server, jobs=jobs) as told:
        assert server.columns == [{"q": [*MANY]}, {}]
        assert alone(server) == [[99] if beside else [], [*MANY]]
        assert [outcome.job_id for outcome in server.reports[1]] == [str(id_of(n)) for n in MANY]
        assert all(outcome.HasField("complete") for outcome in server.reports[1])
        assert sorted(told.others) == [(job.fence, None, APPLIED) for job in jobs]
        assert (told.completed, told.still_held) == ([], [])


async def test_columns_go_to_the_next_server_whatever_its_age() -> None:
    """In a cluster that is being upgraded."""
    new, old = Scripted(), Scripted()
    new.refusals.append(Unavailable)
    old.reads_columns = False
    async with telling(new, old, jobs=jobs_together(*MANY)) as told:
        assert (alone(new), alone(old)) == ([[]], [[], [*MANY]])
        assert [fence for fence, *_ in told.others] == [*MANY]
        assert (told.completed, told.still_held) == ([], [])


async def test_columns_without_an_answer_are_sent_again_as_they_are() -> None:
    server = Scripted()
    server.refusals.append(Unavailable)
    async with telling(server, jobs=jobs_together(*MANY)) as told:
        assert server.columns == [{"q": [*MANY]}] * 2
        assert (told.completed, told.others, told.still_held) == ([*MANY], [], [])


async def test_a_column_that_is_refused_is_tried_one_by_one() -> None:
    """One bad job takes no other with it."""
    server = Scripted()
    # The column, all one by one, the first half, the first alone; what was said of it is taken.
    server.refusals += [InvalidField] * 4
    async with telling(server, jobs=jobs_together(1, 2, 3, 4)) as told:
        assert server.columns == [{"q": [1, 2, 3, 4]}] + [{}] * 6
        assert alone(server) == [[], [1, 2, 3, 4], [1, 2], [1], [1], [2], [3, 4]]
        assert server.reports[4][0].fail.error.type == REFUSED
        assert told.others == [(1, "fail", APPLIED)] + [(n, None, APPLIED) for n in (2, 3, 4)]
        assert (told.completed, told.still_held) == ([], [])


@pytest.mark.parametrize(
    ("refusal", "reports", "answered"),
    [(MessageTooLarge, [[], [1, 2], [3, 4]], [1, 2, 3, 4]), (InternalError, [[]], [])],
)
async def test_columns_that_are_refused_otherwise(
    refusal: type[AtlasQueueError], reports: list[list[int]], answered: list[int]
) -> None:
    """As outcomes: too large a message is halved, and what a bug refuses is given back by a heartbeat."""
    server = Scripted()
    server.refusals.append(refusal)
    async with telling(server, jobs=jobs_together(1, 2, 3, 4)) as told:
        assert alone(server) == reports
        assert [fence for fence, *_ in told.others] == answered
        assert told.still_held == []


# -- what a handler sees ------------------------------------------------------------------------------


def test_a_job_of_a_column_is_as_one_that_came_alone() -> None:
    shared = wire.LeasedJob(
        kind="do",
        headers={"tenant": "a"},
        priority=2,
        attempt=1,
        crashes=3,
        deliveries=4,
        max_attempts=20,
        checkpoint=b"half",
        deadline_time_left=to_duration(timedelta(seconds=100)),
    )
    job_id = uuid.uuid4()
    single = wire.LeasedJob(queue="q", job_id=str(job_id), fence=8, payload=b"\0\xff")
    single.MergeFrom(shared)
    together = wire.UniformLeases(shared=shared, job_ids=bytes(16) + job_id.bytes, fences=[7, 8])
    together.shared.queue = "q"
    together.payloads.extend([b"", b"\0\xff"])
    expected = JobContext(single)
    first, one = scripted.leased_together(together)
    names = (
        "queue job_id kind payload headers priority fence attempt crashes deliveries max_attempts checkpoint"
        " lease_state draining cancelled has_checkpoint_to_tell"
    )
    for name in names.split():
        assert getattr(one, name) == getattr(expected, name), name
    assert (first.job_id, first.fence, first.payload) == (str(uuid.UUID(int=0)), 7, b"")
    assert 99 < (one.time_left or 0) <= 100
    assert one.time_left == pytest.approx(expected.time_left, abs=1)


def test_what_is_unset_in_a_column_is_as_in_a_job_alone() -> None:
    (one,) = jobs_together(1)
    assert (one.headers, one.checkpoint, one.time_left) == ({}, None, None)


def test_a_handler_changes_nothing_of_the_other_jobs() -> None:
    one, other = jobs_together(1, 2, headers={"tenant": "a"}, checkpoint=b"old")
    one.headers["tenant"] = "b"
    one.headers.clear()
    one.save_checkpoint(b"new")
    one.set_progress(50)
    one.cancel()
    assert other.headers == {"tenant": "a"}
    assert (other.checkpoint, other.has_checkpoint_to_tell, other.cancelled) == (
        b"old",
        False,
        False,
    )
    assert other.take_told() is None
    assert one.take_told() == {"checkpoint": b"new", "progress": (50, "")}


def test_time_left_is_counted_from_the_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    one, other = jobs_together(1, 2, deadline_time_left=to_duration(timedelta(seconds=10)))
    assert one.time_left == 10
    monkeypatch.setattr(time, "monotonic", lambda: now + 4)
    assert (one.time_left, other.time_left) == (6, 6)
    monkeypatch.setattr(time, "monotonic", lambda: now + 40)
    assert one.time_left == 0


def test_columns_whose_lengths_differ_bring_no_job() -> None:
    told = uniform(1, 2)
    told.payloads.pop()
    with pytest.raises(ValueError, match="shorter"):
        scripted.leased_together(told)


@pytest.mark.parametrize("uncertain", [True, False])
def test_jobs_of_a_column_are_held_as_certain_as_the_others(uncertain: bool) -> None:
    holds = Held()
    holds.add([job(50)])
    holds.set_uncertain(uncertain)
    jobs = jobs_together(7, 5, 6)
    holds.add(iter(jobs))
    assert holds.last_fence == 50
    holds.add([])
    assert holds.last_fence == 50
    state = LeaseState.UNCERTAIN if uncertain else LeaseState.CERTAIN
    assert {each.lease_state for each in jobs} == {state}
    assert [each.fence for each in holds.snapshot()[0]] == [50, 7, 5, 6]
    assert holds.get(5) is jobs[1]
    listed, *_ = holds.to_proto(jobs)
    assert [(held.queue, held.job_id, held.fence) for held in listed] == [
        ("q", str(id_of(fence)), fence) for fence in (7, 5, 6)
    ]


# -- the whole worker ---------------------------------------------------------------------------------


def both_forms(*fences: int) -> list[object]:
    """The events of a stream that brings jobs in columns, and one alone."""
    jobs = wire.LeasedJobs(jobs=[leased(100)], uniform=[uniform(*fences[:4]), uniform(*fences[4:])])
    return [
        wire.LeaseResponse(session_opened=opened()),
        wire.LeaseResponse(leased_jobs=jobs),
        wire.LeaseResponse(
            cancel_requested=wire.CancelRequested(jobs=[wire.JobLease(queue="q", fence=fences[0])])
        ),
    ]


async def test_a_worker_asks_for_columns_and_counts_what_became_of_them() -> None:
    server, metrics, ran = Scripted(), WorkerMetrics(), list[tuple[int, str, bytes]]()
    server.streams.append(both_forms(*MANY))
    server.statuses = {3: wire.REPORT_STATUS_STALE, 4: wire.REPORT_STATUS_ALREADY_APPLIED}
    app = App()

    @app.job("do", queue="q")
    async def do(job: JobContext) -> str | None:
        ran.append((job.fence, job.job_id, job.payload))
        if job.fence == MANY[0]:
            await job.cancellation()
        return "ok" if job.fence == 7 else None

    async with scripted.serving(server) as addresses:
        worker = Worker(app, addresses, slots=50, grace=WITHIN_S, metrics=metrics)
        with structlog.testing.capture_logs() as logged:
            running = asyncio.create_task(worker.run())
            await eventually_so(lambda: worker.completed + worker.stale == len(MANY) + 1)
            assert (worker.completed, worker.stale) == (len(MANY), 1)
            assert worker.held.snapshot()[0] == []
            worker.stop()
            await running
    assert server.leases[0].uniform
    assert sorted(ran) == [(n, str(id_of(n)), str(n).encode()) for n in MANY] + [(100, "j100", b"")]
    # Cancelled, with a result, and one that came alone; all others in columns.
    told = sorted(
        fence for columns in server.columns for fences in columns.values() for fence in fences
    )
    told_alone = sorted(fence for fences in alone(server) for fence in fences)
    assert told_alone == [1, 7, 100]
    assert told == [n for n in MANY if n not in (1, 7)]
    refused = [line for line in logged if line["event"] == "outcome_refused"]
    assert [(line["fence"], line["job"], line["outcome"], line["status"]) for line in refused] == [
        (3, str(id_of(3)), "complete", "REPORT_STATUS_STALE")
    ]
    answers = {
        sample.labels["status"]: sample.value
        for family in metrics.collect()
        for sample in family.samples
        if "status" in sample.labels
    }
    assert {status: n for status, n in answers.items() if n} == {
        "applied": len(MANY) - 1, "already_applied": 1, "stale": 1
    }  # fmt: skip


async def test_a_worker_and_a_server_that_both_read_columns(
    server: RunningServer, migrated_database_url: str
) -> None:
    """Each job runs once with its own payload; what it returns is stored under its own id."""
    ran: list[Any] = []
    in_columns: list[bool] = []
    app = App()

    @app.job("do", queue="q")
    async def do(job: JobContext) -> bytes | None:
        ran.append((job.job_id, job.payload))
        in_columns.append(job.id_bytes is not None)
        return job.payload if job.payload.endswith(b"7") else None

    ids = await enqueue(server, 200, queue="q", kind="do")
    worker = Worker(app, server.grpc_address, slots=100, grace=WITHIN_S)
    running = asyncio.create_task(worker.run())
    await eventually_so(lambda: worker.completed == 200)
    worker.stop()
    await running
    assert sorted(ran) == [(job_id, job_id.encode()) for job_id in ids]
    assert any(in_columns)
    assert worker.stale == 0
    async with await psycopg.AsyncConnection.connect(migrated_database_url) as connection:
        rows = await execute(
            connection, "select job_id::text, state::text, result from atlasqueue.finished"
        )
    expected = [(i, "s", i.encode() if i.endswith("7") else None) for i in ids]
    assert sorted(rows) == expected
