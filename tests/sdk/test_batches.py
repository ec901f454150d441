"""Whatever jobs are cut into messages, and in whatever form they travel, they arrive as they were asked for."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atlasqueue import batches as module
from atlasqueue.batches import BATCH_BYTES, Batch, batches
from atlasqueue.jobs import NewJob, RetryPolicy, new_job_to_proto
from atlasqueue.v1 import job_pb2
from atlasqueue.v1 import job_service_pb2 as wire


class PutBack(tzinfo):
    """A zone whose clocks are put back by an hour, always just now."""

    def utcoffset(self, at: datetime | None) -> timedelta:
        """By what the same time is told apart."""
        return timedelta(hours=1 if at is not None and at.fold else 2)

    def dst(self, _: datetime | None) -> timedelta:
        """Nobody asks."""
        return timedelta()


ZONE = PutBack()
TWICE = datetime(2030, 10, 27, 2, 30, tzinfo=ZONE)
RUN_ATS = [
    TWICE,
    TWICE.replace(fold=1),
    TWICE.astimezone(UTC),
    TWICE.astimezone(timezone(timedelta(hours=-5))),
]
SORTS = st.builds(
    NewJob,
    queue=st.sampled_from(["q", "q", "mail"]),
    kind=st.sampled_from(["k", "k", "bad kind"]),
    headers=st.sampled_from([None, {}, {"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "2"}]),
    priority=st.sampled_from([None, None, 0, 3]),
    run_at=st.sampled_from([None, *RUN_ATS]),
    deadline=st.sampled_from([None, None, timedelta(seconds=5)]),
    retry_policy=st.sampled_from([None, None, RetryPolicy(), RetryPolicy(max_attempts=3)]),
)
PAYLOADS = st.sampled_from([b"", b"p", b"\0" * 300])
OWN_IDS = st.uuids().map(str) | st.uuids().map(lambda each: str(each).upper())
ODD_IDS = st.sampled_from(
    ["", "no id", "Ё" * 200, str(uuid.UUID(int=0)), "a" * 36, f"{uuid.UUID(int=5)}\n"]
)


@st.composite
def some_jobs(draw: st.DrawFn, most: int) -> list[NewJob]:
    """Jobs of few sorts, so that some go together."""
    sorts = draw(st.lists(SORTS, min_size=1, max_size=3))
    ids = draw(st.sampled_from([st.none(), st.none() | OWN_IDS, st.none() | OWN_IDS | ODD_IDS]))
    own = st.tuples(st.sampled_from(sorts), PAYLOADS, ids)
    return [
        replace(sort, payload=payload, job_id=job_id)
        for sort, payload, job_id in draw(st.lists(own, min_size=1, max_size=most))
    ]


def decoded(request: wire.EnqueueBatchRequest) -> list[job_pb2.NewJob]:
    """What a server makes of a message, one by one."""
    found = list(wire.EnqueueBatchRequest.FromString(request.SerializeToString()).jobs)
    for each in request.uniform:
        assert len(each.job_ids) == 16 * len(each.payloads)
        assert (each.shared.job_id, each.shared.payload) == ("", b"")
        for n, payload in enumerate(each.payloads):
            job = job_pb2.NewJob(payload=payload)
            job.MergeFrom(each.shared)
            job.job_id = str(uuid.UUID(bytes=each.job_ids[16 * n : 16 * n + 16]))
            found.append(job)
    return found


def in_any_order(jobs: Iterable[job_pb2.NewJob]) -> list[bytes]:
    """So that they can be compared."""
    return sorted(job.SerializeToString(deterministic=True) for job in jobs)


def is_uuid(text: str) -> bool:
    """Whether this is one in the only form that the contract has."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


SMALL = {"UNIFORM_MIN": 3, "BATCH_ITEMS": 9, "BATCH_BYTES": 1500}


@given(some_jobs(25), st.booleans())
@example([NewJob("q", "k", run_at=at) for at in RUN_ATS[:2] * 3], False)
@example([NewJob("q", "k", job_id="Ё" * 200) for _ in range(9)], False)
@example([NewJob("q", "k", job_id=str(uuid.UUID(int=n)).upper()) for n in range(10, 14)], False)
def test_each_job_is_sent_once_as_it_was_asked_for(jobs: list[NewJob], apart: bool) -> None:
    """How it showed: of two times that differ in `fold` only both jobs ran at the first; ids that are none were
    not counted, and 2000 long ones made a message that no transport carries."""
    left = iter(jobs)
    with patch.multiple(module, **SMALL):
        for batch in batches(jobs):
            asked = [next(left) for _ in batch.job_ids]
            assert 1 <= len(batch) <= 9
            for job, job_id in zip(asked, batch.job_ids, strict=True):
                if job.job_id:
                    own = job.job_id
                    assert job_id == (own.lower() if is_uuid(own) else own)
                else:
                    assert uuid.UUID(job_id).version == 7
            made = [i for job, i in zip(asked, batch.job_ids, strict=True) if not job.job_id]
            assert made == sorted(set(made))
            request = batch.request(apart=apart)
            assert not (apart and request.uniform)
            assert all(len(each.payloads) >= 3 for each in request.uniform)
            assert len(batch) == 1 or request.ByteSize() <= 1500
            wanted = map(new_job_to_proto, asked, batch.job_ids)
            assert in_any_order(decoded(request)) == in_any_order(wanted)
    assert list(left) == []


def answered(
    request: wire.EnqueueBatchRequest, bad: set[int]
) -> tuple[wire.EnqueueBatchResponse, dict[int, str]]:
    """An answer that refuses these, whose numbers are their payloads, and all uniform jobs of a bad kind; and
    who is refused for what."""
    response, told = wire.EnqueueBatchResponse(), {}
    for job in request.jobs:
        result, number = response.results.add(job_id=job.job_id), int(job.payload)
        if number in bad:
            result.error.message = told[number] = f"no {number}"
    for each in request.uniform:
        uniform, numbers = response.uniform.add(), list(map(int, each.payloads))
        if each.shared.kind == "bad kind":
            uniform.error.message = "no such kind"
            told |= dict.fromkeys(numbers, "no such kind")
            continue
        for index, number in enumerate(numbers):
            if number in bad:
                refused = uniform.refused.add(index=index)
                refused.error.message = told[number] = f"no {number}"
    return response, told


@given(some_jobs(9), st.sets(st.integers(0, 8)), st.booleans())
def test_each_refusal_is_found_at_the_place_of_its_job(
    jobs: list[NewJob], bad: set[int], apart: bool
) -> None:
    with patch.multiple(module, **SMALL | {"BATCH_BYTES": BATCH_BYTES}):
        (batch,) = batches(replace(job, payload=b"%d" % n) for n, job in enumerate(jobs))
        # As for the first of two tries, which a server may not have understood.
        batch.request()
        response, told = answered(batch.request(apart=apart), bad)
        assert batch.was_understood(response)
        assert {n: str(error) for n, error in batch.errors(response).items()} == told


def many(job: NewJob, count: int = 40) -> Batch:
    """A batch of so many of it, which could go together."""
    (batch,) = batches(replace(job) for _ in range(count))
    return batch


def test_jobs_that_differ_in_id_and_payload_only_go_together() -> None:
    """Fewer of a sort than are worth it do not, nor those whose id is none."""
    jobs = [NewJob("q", "k", b"%d" % n) for n in range(40)]
    jobs += [NewJob("q", "k", headers={"a": "1"}) for _ in range(31)]
    jobs += [NewJob("r", "k") for _ in range(32)]
    jobs += [NewJob("q", "k", priority=1, job_id=f"{n}") for n in range(40)]
    random.Random(1).shuffle(jobs)
    (batch,) = batches(jobs)
    request = batch.request()
    together = {each.shared.queue: list(each.payloads) for each in request.uniform}
    assert together == {"q": [job.payload for job in jobs if job.payload], "r": [b""] * 32}
    assert len(request.uniform) == 2
    assert len(request.jobs) == 71


@pytest.mark.parametrize(
    "fields",
    [
        {"payload": None},
        {"payload": type("Bytes", (bytes,), {})(b"of a class of its own")},
        {"job_id": b"01a21058-2a5a-75fc-81ce-e89cda5539bd"},
        {"headers": [("a", "b")]},
        {"headers": {"a": "b", b"c": b"d"}},
        {"queue": None},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_a_message_holds_is_sent_though_it_is_of_an_odd_type(fields: dict[str, Any]) -> None:
    """How it showed: enqueue took a payload of None, of which enqueue_many said that NoneType has no len()."""
    job = replace(NewJob("q", "k"), **fields)
    for batch in (many(job), many(job, 2)):
        assert all(type(job_id) is str for job_id in batch.job_ids)
        wanted = [new_job_to_proto(job, job_id) for job_id in batch.job_ids]
        assert in_any_order(decoded(batch.request())) == in_any_order(wanted)


def test_a_message_of_many_bytes_is_cut() -> None:
    """Of either form, however many of its bytes are payloads, shared or ids; a job that is too large goes alone."""
    jobs = [
        *(NewJob("q", "k", b"x" * 20_000) for _ in range(300)),
        *(NewJob("q", "k", headers={"a": f"{n}" + "x" * 8000}) for n in range(500)),
        *(NewJob("q", "k", job_id="x" * 9000) for _ in range(500)),
        NewJob("q", "k", b"x" * (BATCH_BYTES + 1)),
        NewJob("q", "k"),
    ]
    cut = list(batches(jobs))
    assert sum(map(len, cut)) == len(jobs)
    sizes = [batch.request(apart=apart).ByteSize() for batch in cut for apart in (False, True)]
    assert [len(batch) for batch in cut[-2:]] == [1, 1]
    assert max(sizes[:-4]) <= BATCH_BYTES
    # None is cut that would have held the next one, but for what is reckoned too high: 64 bytes a job.
    assert all(size > 0.95 * BATCH_BYTES for size in sizes[1:-8:2])
