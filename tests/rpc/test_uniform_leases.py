"""Leased jobs in columns: for who asks for them, and the same jobs as one by one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue_server.domain import lease as leasing
from atlasqueue_server.model import limits
from atlasqueue_server.rpc import convert_out
from atlasqueue_server.store.lease import LeasedRow, wire_bytes
from tests.factories import execute
from tests.plugins.server import RunningServer
from tests.rpc.columns import QUEUE, all_of, enqueue, lease, outcome, stream

# So many of a sort come in columns, and so few do not.
MANY, FEW = 16, 15


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first statement of a lane leases all that waits, so that the jobs are one event."""
    monkeypatch.setattr(leasing, "BATCH_MIN", leasing.BATCH_MAX)


async def leased_rows(url: str) -> dict[int, list[Any]]:
    """By fence: what is stored of the leased jobs."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await execute(
            connection,
            "select l.fence, job_id::text, kind, payload, headers, l.priority, attempt, crashes, deliveries,"
            " deadline_at, c.data from atlasqueue.leased l"
            " join atlasqueue.jobs using (queue, job_id)"
            " left join atlasqueue.checkpoints c using (queue, job_id)",
        )
    return {fence: rest for fence, *rest in rows}


def as_stored(job: wire.LeasedJob) -> list[Any]:
    """What is stored of a job, by what was sent of it."""
    return [
        job.job_id,
        job.kind,
        job.payload,
        dict(job.headers) or None,
        job.priority,
        job.attempt,
        job.crashes,
        job.deliveries,
        job.deadline_at.ToDatetime(UTC) if job.HasField("deadline_at") else None,
        job.checkpoint or None,
    ]


async def test_many_of_a_sort_come_in_columns_and_few_one_by_one(server: RunningServer) -> None:
    few = await enqueue(server, FEW, kind="few")
    many = await enqueue(server, MANY, kind="many")
    async with stream(server, 100, uniform=True) as reading:
        (event,) = await reading.jobs(MANY + FEW)
    (uniform,) = event.uniform
    assert (uniform.shared.queue, uniform.shared.kind) == (QUEUE, "many")
    assert [job.payload.decode() for job in event.jobs] == few
    assert [payload.decode() for payload in uniform.payloads] == many
    assert all(job.job_id == job.payload.decode() for job in all_of(event))


async def test_who_does_not_ask_gets_no_columns(server: RunningServer) -> None:
    await enqueue(server, MANY)
    async with stream(server, 100) as reading:
        (event,) = await reading.jobs(MANY)
    assert (len(event.jobs), len(event.uniform)) == (MANY, 0)


async def test_jobs_in_columns_are_those_that_are_stored(
    server: RunningServer, migrated_database_url: str
) -> None:
    """Of several priorities, kinds, attempts, headers, deadlines and checkpoints, also among each other."""
    # Leased before, given up once, and with what an earlier run has saved.
    await enqueue(server, MANY + 2)
    once = await lease(server, MANY + 2)
    for job in once.jobs[:2]:
        held = wire.HeldJob(queue=QUEUE, job_id=job.job_id, fence=job.fence, checkpoint=b"half")
        request = wire.HeartbeatRequest(
            session_id=once.session.session_id, epoch=1, held=[held], last_fence=0
        )
        await server.workers.Heartbeat(request)
    released = [outcome(job, release=wire.Release()) for job in once.jobs]
    await server.workers.Report(wire.ReportRequest(outcomes=released))
    sorts: list[Mapping[str, Any]] = [
        {},
        {"kind": "other"},
        {"priority": 1},
        {"headers": {"tenant": "a", "z": "é"}},
        {"headers": {"tenant": "b"}},
        {"deadline": Duration(seconds=3600)},
    ]
    for sort in sorts:
        await enqueue(server, MANY, **sort)
    for sort in sorts:
        await enqueue(server, 2, **sort)
    total = MANY + 2 + len(sorts) * (MANY + 2)
    async with stream(server, 200, uniform=True) as reading:
        (event,) = await reading.jobs(total)
        stored = await leased_rows(migrated_database_url)
    jobs = all_of(event)
    assert {job.fence: as_stored(job) for job in jobs} == stored
    for job in jobs:
        if job.HasField("deadline_at"):
            assert job.deadline_time_left == Duration(seconds=3600)
    # Released ones, and those of each sort; alone are the two that have a checkpoint.
    assert sorted(len(uniform.fences) for uniform in event.uniform) == [MANY] + 6 * [MANY + 2]
    assert [(job.checkpoint, job.deliveries) for job in event.jobs] == [(b"half", 2)] * 2
    for uniform in event.uniform:
        assert list(uniform.fences) == sorted(uniform.fences)


@pytest.mark.parametrize("uniform", [True, False])
async def test_jobs_with_wide_headers_fit_into_a_message(
    server: RunningServer, uniform: bool
) -> None:
    """How it showed: headers were counted by character, so 600 jobs with three bytes to one came as 4.9 MB, which no
    client accepted."""
    for _ in range(2):
        await enqueue(server, 300, headers={"h": "€" * 2700})
    async with stream(server, 600, uniform=uniform) as reading:
        events = await reading.jobs(600)
    assert len(events) == 2
    assert max(event.ByteSize() for event in events) <= limits.MESSAGE_CUT_BYTES


SORTS = st.builds(
    dict,
    kind=st.sampled_from(["a", "b"]),
    headers_json=st.sampled_from([None, '{"k": "v"}']),
    priority=st.sampled_from([1, 3]),
    attempt=st.sampled_from([0, 1]),
    crashes=st.sampled_from([0, 1]),
    deliveries=st.sampled_from([1, 2]),
    deadline_at=st.sampled_from([None, datetime(2030, 1, 1, tzinfo=UTC)]),
    max_attempts=st.sampled_from([3, 20]),
    checkpoint=st.sampled_from([None, b"half"]),
)


@st.composite
def leases(draw: st.DrawFn) -> list[LeasedRow]:
    """Jobs of a few sorts, some of which differ in one thing only."""
    first = draw(SORTS)
    other = first | dict([draw(st.sampled_from(sorted(draw(SORTS).items(), key=str)))])
    sorts = [first, other, draw(SORTS)]
    rows = []
    counts = draw(st.lists(st.integers(0, 2 * MANY), min_size=3, max_size=3))
    drawn = draw(st.permutations([at for at, count in enumerate(counts) for _ in range(count)]))
    for fence, at in enumerate(drawn, 1):
        sort = dict(sorts[at])
        deadline_ms = 7000 if sort["deadline_at"] else None
        row = LeasedRow(
            session_id=1, id_bytes=fence.to_bytes(16), fence=fence, payload=b"%d" % fence,
            deadline_ms=deadline_ms, seq=fence, **sort,
        )  # fmt: skip
        rows.append(row)
    return rows


def _sort(job: wire.LeasedJob) -> bytes:
    """All but what is each job's own."""
    shared = wire.LeasedJob()
    shared.CopyFrom(job)
    for own in ("job_id", "fence", "payload"):
        shared.ClearField(own)
    return shared.SerializeToString(deterministic=True)


@given(leases())
def test_both_forms_together_are_the_plain_form(rows: list[LeasedRow]) -> None:
    plain = [convert_out.leased_job(QUEUE, row) for row in rows]
    message = wire.LeasedJobs()
    convert_out.leased_jobs(QUEUE, rows, message)
    by_fence = attrgetter("fence")
    assert sorted(all_of(message), key=by_fence) == plain
    # In the order of the plain form within a sort, and columns for all that are many and for no others.
    counts: dict[bytes, int] = {}
    for sort, group in groupby(sorted(plain, key=_sort), key=_sort):
        fences = [job.fence for job in group]
        counts[sort] = len(fences)
        assert [job.fence for job in all_of(message) if _sort(job) == sort] == fences
    assert {_sort(uniform.shared) for uniform in message.uniform} == {
        sort for sort, count in counts.items() if count >= MANY
    }
    assert all(counts[_sort(job)] < MANY for job in message.jobs)
    assert message.ByteSize() <= wire_bytes(rows)
