"""Jobs that differ in id and payload only, over a real connection: what is stored, and who is refused for what."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from atlasqueue.errors import DETAILS_KEY, AtlasQueueError, InvalidField, from_status
from atlasqueue.v1 import job_pb2, queue_service_pb2, worker_service_pb2
from atlasqueue.v1 import job_service_pb2 as wire
from atlasqueue_server.domain import enqueue as enqueue_of_domain
from atlasqueue_server.domain.enqueue import UNIFORM_MIN
from atlasqueue_server.model import limits
from tests.factories import execute
from tests.plugins.server import RunningServer

QUEUE = "mail"
NIL = uuid.UUID(int=0)
TOO_LARGE = bytes(limits.PAYLOAD_BYTES_MAX + 1)


@pytest.fixture
async def connection(migrated_database_url: str) -> AsyncIterator[Any]:
    """Looks on."""
    async with await psycopg.AsyncConnection.connect(migrated_database_url, autocommit=True) as it:
        yield it


def uniform(
    count: int,
    ids: dict[int, uuid.UUID] | None = None,
    payloads: dict[int, bytes] | None = None,
    **shared: Any,
) -> wire.UniformJobs:
    """So many new ones; of some, by position, the id or the payload is given."""
    own = [
        ((ids or {}).get(n, uuid.uuid4()), (payloads or {}).get(n, b"%d" % n)) for n in range(count)
    ]
    return wire.UniformJobs(
        shared=job_pb2.NewJob(**({"queue": QUEUE, "kind": "send"} | shared)),
        job_ids=b"".join(job_id.bytes for job_id, _ in own),
        payloads=[payload for _, payload in own],
    )


def ids_of(jobs: wire.UniformJobs) -> list[str]:
    """The ids of these, as text."""
    data = jobs.job_ids
    return [str(uuid.UUID(bytes=data[at : at + 16])) for at in range(0, len(data), 16)]


def apart(jobs: wire.UniformJobs) -> list[job_pb2.NewJob]:
    """The same jobs in the other form."""
    each = []
    for job_id, payload in zip(ids_of(jobs), jobs.payloads, strict=True):
        job = job_pb2.NewJob(job_id=job_id, payload=payload)
        job.MergeFrom(jobs.shared)
        each.append(job)
    return each


async def enqueue(
    server: RunningServer, *uniform: wire.UniformJobs, jobs: list[job_pb2.NewJob] | None = None
) -> wire.EnqueueBatchResponse:
    """The answer to one call."""
    request = wire.EnqueueBatchRequest(jobs=jobs or [], uniform=uniform)
    return await server.jobs.EnqueueBatch(request)


async def refusal(server: RunningServer, *uniform: wire.UniformJobs, **more: Any) -> list[str]:
    """The fields for which a whole call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await enqueue(server, *uniform, **more)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = dict(failed.value.trailing_metadata() or ())[DETAILS_KEY]
    return fields(status_pb2.Status.FromString(details))


def told(result: Any) -> AtlasQueueError | None:
    """Why something was refused."""
    return from_status(result.error) if result.HasField("error") else None


def fields(status: status_pb2.Status) -> list[str]:
    """The fields that a refusal names."""
    error = from_status(status)
    assert isinstance(error, InvalidField)
    return [violation.field for violation in error.violations]


def refused(result: wire.UniformResult) -> dict[int, str | list[str]]:
    """By index: the fields that are refused, or the reason when it is none of a field."""
    found: dict[int, str | list[str]] = {}
    for each in result.refused:
        error = from_status(each.error)
        found[each.index] = (
            fields(each.error) if isinstance(error, InvalidField) else type(error).__name__
        )
    return found


async def stored(connection: Any) -> dict[str, bytes]:
    """The payload of each job that is stored."""
    return dict(await execute(connection, "select job_id::text, payload from atlasqueue.jobs"))


async def test_both_forms_in_one_call_are_answered_in_their_order(
    server: RunningServer, connection: Any
) -> None:
    taken, taken_too = uuid.uuid4(), uuid.uuid4()
    for job_id in (taken, taken_too):
        job = job_pb2.NewJob(queue=QUEUE, kind="send", job_id=str(job_id), payload=b"first")
        assert not told((await enqueue(server, jobs=[job])).results[0])
    jobs = [
        job_pb2.NewJob(queue=QUEUE, kind="send", job_id=str(uuid.uuid4()), payload=b"lone"),
        job_pb2.NewJob(queue=QUEUE, kind="no kind", job_id=str(uuid.uuid4())),
        job_pb2.NewJob(queue=QUEUE, kind="send", job_id=str(taken), payload=b"other"),
    ]
    many = uniform(UNIFORM_MIN, {5: taken_too})
    shared_is_bad = uniform(UNIFORM_MIN, queue="no queue", priority=6)
    some_are_bad = uniform(
        600, {3: NIL, 9: NIL, 11: taken, 555: NIL}, {9: TOO_LARGE, 599: TOO_LARGE}
    )
    few = uniform(3, {0: NIL, 2: taken_too}, kind="other")
    sound = uniform(2 * UNIFORM_MIN, queue="post")

    response = await enqueue(server, many, shared_is_bad, some_are_bad, few, sound, jobs=jobs)

    assert [result.job_id for result in response.results] == [job.job_id for job in jobs]
    assert told(response.results[0]) is None
    assert fields(response.results[1].error) == ["jobs[1].kind"]
    assert type(told(response.results[2])).__name__ == "JobIdConflict"
    assert [refused(result) for result in response.uniform] == [
        {5: "JobIdConflict"},
        {},
        {
            3: ["uniform[2].job_ids[3]"],
            9: ["uniform[2].job_ids[9]", "uniform[2].payloads[9]"],
            11: "JobIdConflict",
            555: ["uniform[2].job_ids[555]"],
            599: ["uniform[2].payloads[599]"],
        },
        {0: ["uniform[3].job_ids[0]"], 2: "JobIdConflict"},
        {},
    ]
    assert [result.HasField("error") for result in response.uniform] == [
        False, True, False, False, False,
    ]  # fmt: skip
    assert fields(response.uniform[1].error) == [
        "uniform[1].shared.queue",
        "uniform[1].shared.priority",
    ]
    wanted = {str(taken): b"first", str(taken_too): b"first", jobs[0].job_id: b"lone"}
    for i, asked in enumerate((many, None, some_are_bad, few, sound)):
        bad = refused(response.uniform[i])
        each = apart(asked) if asked else []
        wanted |= {job.job_id: job.payload for n, job in enumerate(each) if n not in bad}
    assert await stored(connection) == wanted


async def test_several_sorts_of_one_line_become_ready_in_the_order_of_their_ids(
    server: RunningServer, connection: Any
) -> None:
    """How it showed: of two kinds that alternated in one call all of the one were ready before all of the other."""
    ids = sorted(uuid.uuid4() for _ in range(3 * UNIFORM_MIN))
    in_turn = [
        uniform(UNIFORM_MIN, dict(enumerate(ids[kind::3])), kind=f"kind{kind}") for kind in (0, 1)
    ]
    lone = [
        job_pb2.NewJob(queue=QUEUE, kind="send", job_id=str(job_id), priority=3)
        for job_id in ids[2::3]
    ]
    response = await enqueue(server, *in_turn, jobs=lone)
    assert [refused(result) for result in response.uniform] == [{}, {}]
    ready = await execute(connection, "select job_id from atlasqueue.ready order by seq")
    assert [job_id for (job_id,) in ready] == ids


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shared": {"queue": ""}}, "shared.queue"),
        ({"shared": {"kind": "é"}}, "shared.kind"),
        ({"shared": {"priority": 0}}, "shared.priority"),
        ({"shared": {"headers": {"": "v"}}}, "shared.headers"),
        ({"shared": {"deadline": Duration(seconds=0)}}, "shared.deadline"),
        ({"shared": {"run_at": Timestamp(seconds=-1)}}, "shared.run_at"),
        (
            {"shared": {"retry_policy": job_pb2.RetryPolicy(max_attempts=0)}},
            "shared.retry_policy.max_attempts",
        ),
        ({"shared": {"job_id": str(uuid.uuid4())}}, "shared"),
        ({"shared": {"payload": b"p"}}, "shared"),
        ({"job_ids": b""}, "job_ids"),
        ({"job_ids": bytes(range(16))}, "job_ids"),
        ({"job_ids": bytes(range(31))}, "job_ids"),
        ({"job_ids": bytes(range(33))}, "job_ids"),
    ],
)
async def test_what_they_share_is_refused_as_a_whole(
    server: RunningServer, connection: Any, change: dict[str, Any], named: str
) -> None:
    """And those beside them are stored."""
    bad = uniform(2, **change.pop("shared", {}))
    for field, value in change.items():
        setattr(bad, field, value)
    good = uniform(2)
    response = await enqueue(server, good, bad)
    assert [told(response.uniform[0]), refused(response.uniform[0])] == [None, {}]
    assert fields(response.uniform[1].error) == [f"uniform[1].{named}"]
    assert not response.uniform[1].refused
    assert (await stored(connection)).keys() == set(ids_of(good))


async def test_no_payloads_are_refused(server: RunningServer, connection: Any) -> None:
    """As is what nobody has filled: neither is a batch without jobs, for which the call would fail."""
    response = await enqueue(server, uniform(0), wire.UniformJobs(job_ids=bytes(16)))
    assert fields(response.uniform[0].error) == ["uniform[0].payloads"]
    assert fields(response.uniform[1].error) == [
        "uniform[1].shared.queue",
        "uniform[1].shared.kind",
        "uniform[1].payloads",
        "uniform[1].job_ids",
    ]
    assert await stored(connection) == {}


async def test_the_jobs_of_both_forms_are_counted_together(
    server: RunningServer, connection: Any
) -> None:
    most = limits.BATCH_ITEMS_MAX
    jobs = apart(uniform(most - 5000, queue="post"))
    assert await refusal(server) == ["jobs"]
    assert await refusal(server, uniform(2500), uniform(2501), jobs=jobs) == ["jobs and uniform"]
    assert await refusal(server, uniform(most + 1)) == ["jobs and uniform"]
    assert await refusal(server, *[wire.UniformJobs()] * (most + 1)) == ["uniform"]
    assert await stored(connection) == {}
    response = await enqueue(server, uniform(2500), uniform(2500), jobs=jobs)
    assert not any(map(told, [*response.results, *response.uniform]))
    assert [refused(result) for result in response.uniform] == [{}, {}]
    assert await execute(connection, "select count(*) from atlasqueue.ready") == [(most,)]


@pytest.mark.parametrize("count", [1, UNIFORM_MIN - 1, UNIFORM_MIN])
async def test_they_are_leased_as_they_were_sent(server: RunningServer, count: int) -> None:
    asked = uniform(count, payloads={0: b""}, headers={"ключ": "значение"})
    response = await enqueue(server, asked)
    assert response.uniform == [wire.UniformResult()]
    request = worker_service_pb2.LeaseOnceRequest(
        queues=[QUEUE], worker="w", max_jobs=count, wait=Duration(seconds=20)
    )
    leased = list((await server.workers.LeaseOnce(request)).jobs)
    assert {(job.job_id, job.payload) for job in leased} == {
        (job.job_id, job.payload) for job in apart(asked)
    }
    assert {(job.kind, *job.headers.items()) for job in leased} == {("send", ("ключ", "значение"))}


async def test_they_are_scheduled_for_the_time_that_they_share(server: RunningServer) -> None:
    run_at = Timestamp()
    run_at.GetCurrentTime()
    run_at.FromDatetime(run_at.ToDatetime() + timedelta(hours=1))
    asked = uniform(UNIFORM_MIN, run_at=run_at)
    for _ in range(2):
        assert (await enqueue(server, asked)).uniform == [wire.UniformResult()]
        depth = await server.queues.GetDepth(queue_service_pb2.GetDepthRequest(queue=QUEUE))
        assert (depth.depth.scheduled, depth.depth.ready) == (UNIFORM_MIN, 0)


async def test_a_queue_too_many_is_told_of_those_that_name_it(
    server: RunningServer, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "QUEUES_MAX", 1)
    good = uniform(UNIFORM_MIN)
    assert (await enqueue(server, good)).uniform == [wire.UniformResult()]
    more = uniform(UNIFORM_MIN)
    response = await enqueue(
        server, uniform(UNIFORM_MIN, queue="post"), uniform(2, queue="post", priority=1), more
    )
    assert type(told(response.uniform[0])).__name__ == "TooManyQueues"
    assert refused(response.uniform[1]) == dict.fromkeys(range(2), "TooManyQueues")
    assert response.uniform[2] == wire.UniformResult()
    assert (await stored(connection)).keys() == {*ids_of(good), *ids_of(more)}


ALL_BUT_PLACE = (
    "select to_jsonb(j) - 'queue' - 'created_at' - 'ready_seq',"
    " to_jsonb(r) - 'queue' - 'seq',"
    " to_jsonb(s) - 'queue' from atlasqueue.jobs j"
    " left join atlasqueue.ready r using (queue, job_id)"
    " left join atlasqueue.scheduled s using (queue, job_id)"
    " where j.queue = %(queue)s order by j.job_id"
)


@pytest.mark.parametrize("seed", range(6))
async def test_they_are_stored_and_answered_as_the_same_jobs_one_by_one(
    server: RunningServer, connection: Any, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn: what they share, who of them exists already, who is refused, who stands there twice."""
    # So that all can be stored by the statement of their own that could.
    monkeypatch.setattr(enqueue_of_domain, "DOUBT_S", 0.0)
    draw = random.Random(seed)
    full = {
        "priority": 1,
        "headers": {"a": "1", "b": "2"},
        "deadline": Duration(seconds=5),
        "retry_policy": job_pb2.RetryPolicy(max_attempts=3, multiplier=1.5),
    }
    run_ats = [{"run_at": Timestamp(seconds=seconds)} for seconds in (1, 2_000_000_000)]
    for _ in range(8):
        count = draw.choice([1, UNIFORM_MIN - 1, UNIFORM_MIN, 2 * UNIFORM_MIN, 3 * UNIFORM_MIN])
        shared: dict[str, Any] = draw.choice([{}, full, full, *(full | at for at in run_ats)])
        share_known, share_odd, twins = draw.choice(
            [(0, 0, 0)] * 2 + [(0.05, 0, 1), (0, 0.02, 0), (0.05, 0.02, 0)]
        )
        odd = {n: NIL for n in range(count) if draw.random() < share_odd}
        asked = uniform(count, odd, **shared)
        known = [
            job for job in apart(asked) if draw.random() < share_known and job.job_id != str(NIL)
        ]
        for job in known[::2]:
            job.payload = b"another"
        if twins:
            at = draw.randrange(count)
            asked.job_ids += asked.job_ids[16 * at : 16 * at + 16]
            asked.payloads.append(draw.choice([asked.payloads[at], b"of a twin"]))
        answers = []
        for queue in ("one", "uniform"):
            asked.shared.queue = queue
            for job in known:
                job.queue = queue
            if known:
                await enqueue(server, jobs=known)
            if queue == "one":
                response = await enqueue(server, jobs=apart(asked))
                answers.append(
                    {n: type(told(r)) for n, r in enumerate(response.results) if told(r)}
                )
            else:
                (result,) = (await enqueue(server, asked)).uniform
                assert not result.HasField("error")
                answers.append({r.index: type(told(r)) for r in result.refused})
        assert answers[0] == answers[1]
        assert list(answers[1]) == sorted(answers[1])
        rows = [await execute(connection, ALL_BUT_PLACE, queue=q) for q in ("one", "uniform")]
        assert rows[0] == rows[1]
    depths = [
        (await server.queues.GetDepth(queue_service_pb2.GetDepthRequest(queue=queue))).depth
        for queue in ("one", "uniform")
    ]
    assert depths[0] == depths[1]
