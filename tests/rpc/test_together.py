"""What is looked at together, for speed, is refused and read as it is one by one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from unittest.mock import patch

from google.protobuf.duration_pb2 import Duration
from hypothesis import example, given
from hypothesis import strategies as st

from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue_server.model import limits
from atlasqueue_server.model.columns import UniformJobs
from atlasqueue_server.model.errors import InvalidField
from atlasqueue_server.model.jobs import NewJob
from atlasqueue_server.rpc import batch, convert_in
from atlasqueue_server.rpc.batch import judge, judged_jobs
from atlasqueue_server.rpc.validate import NIL_UUID, Checker, are_job_ids, is_job_id

ONE, OTHER = "01a21058-2a5a-75fc-81ce-e89cda5539bd", "9826c544-b8ca-47c1-9243-acf35ab1807f"


@st.composite
def ids(draw: st.DrawFn) -> str:
    """An id, most often with one character that may not belong there."""
    made = str(draw(st.uuids(allow_nil=True)))
    at = draw(st.integers(0, len(made)))
    return (
        made[:at] + draw(st.sampled_from(["", "-", " ", "g", "A", "\n", "٣", "é"])) + made[at + 1 :]
    )


@given(st.lists(st.uuids().map(str) | ids(), max_size=4))
@example([ONE + OTHER[:1], OTHER[1:]])
@example([ONE + OTHER, ""])
@example([ONE, NIL_UUID])
@example([ONE[:-2] + "  "])
@example([ONE.replace("-", "") + "----"])
@example([f"{uuid.UUID(ONE)}".upper()])
def test_ids_together_are_ids_one_by_one(values: list[str]) -> None:
    assert are_job_ids(values) == all(map(is_job_id, values))


def outcomes() -> st.SearchStrategy[wire.JobOutcome]:
    """Outcomes, most of them completes, and some that have to be refused."""
    results = st.sampled_from([b"", b"", b"ok", b"too long"])
    return st.builds(
        wire.JobOutcome,
        queue=st.sampled_from(["q", "q", "mail", "no queue"]),
        job_id=st.sampled_from([ONE, OTHER.upper(), ONE, "no id"]),
        fence=st.integers(0, 9),
        complete=st.builds(wire.Complete, result=results),
    ) | st.builds(
        wire.JobOutcome,
        queue=st.just("q"),
        job_id=st.sampled_from([ONE, OTHER]),
        fence=st.integers(0, 9),
        release=st.sampled_from([None, wire.Release()]),
    )


@given(st.lists(outcomes(), max_size=6, unique_by=lambda outcome: outcome.fence))
def test_outcomes_together_are_read_and_refused_as_one_by_one(told: list[wire.JobOutcome]) -> None:
    together, alone = Checker(), Checker()
    with patch.object(limits, "RESULT_BYTES_MAX", 2):
        given_together = convert_in.outcomes(together, wire.ReportRequest(outcomes=told).outcomes)
        given_alone = [convert_in._outcome(alone, i, each) for i, each in enumerate(told)]
    assert (given_together, together.violations) == (given_alone, alone.violations)


def jobs() -> st.SearchStrategy[job_pb2.NewJob]:
    """Jobs, most of them plain, some with more than that, and some that have to be refused."""
    return st.builds(
        job_pb2.NewJob,
        queue=st.sampled_from(["q", "q", "mail", "no queue"]),
        job_id=st.sampled_from([ONE, OTHER.upper(), "no id"]),
        kind=st.sampled_from(["k", "k", ""]),
        payload=st.sampled_from([b"", b"ok", b"too long"]),
        priority=st.sampled_from([None, None, 0, 1, 5, 6]),
        headers=st.sampled_from([{}, {}, {"k": "v"}]),
        deadline=st.sampled_from([None, None, Duration(seconds=5)]),
    )


@given(st.lists(jobs(), max_size=4))
async def test_jobs_together_are_read_and_refused_as_one_by_one(
    asked: list[job_pb2.NewJob],
) -> None:
    with patch.object(limits, "PAYLOAD_BYTES_MAX", 2):
        together = await judged_jobs(job_service_pb2.EnqueueBatchRequest(jobs=asked).jobs)
        alone = [judge(f"jobs[{i}].", job) for i, job in enumerate(asked)]
        sound = convert_in.sound_jobs(asked)
    assert list(map(_told, together)) == list(map(_told, alone))
    assert sound in ([], alone)


@st.composite
def uniform(draw: st.DrawFn) -> job_service_pb2.UniformJobs:
    """Uniform jobs, so many that either form of them is met; some share what has to be refused."""
    count = draw(st.integers(1, 4))
    own = [(draw(st.sampled_from(IDS_IN_BINARY)), draw(PAYLOADS)) for _ in range(count)]
    shared = draw(jobs())
    shared.ClearField("job_id")
    shared.ClearField("payload")
    return job_service_pb2.UniformJobs(
        shared=shared,
        job_ids=b"".join(job_id for job_id, _ in own),
        payloads=[payload for _, payload in own],
    )


# The last two hold the nil id, but not as one of theirs.
IDS_IN_BINARY = [
    uuid.UUID(ONE).bytes,
    uuid.UUID(OTHER).bytes,
    bytes(16),
    bytes(8) + b"12345678",
    b"12345678" + bytes(8),
]
PAYLOADS = st.sampled_from([b"", b"ok", b"too long"])


@given(st.lists(uniform(), max_size=3))
async def test_uniform_jobs_are_read_and_refused_as_one_by_one(
    asked: list[job_service_pb2.UniformJobs],
) -> None:
    """How it showed: of a nil id whose payload is too large only the payload was named."""
    request = job_service_pb2.EnqueueBatchRequest(uniform=asked)
    # As if each stood in a line of its own: those that share one are taken apart.
    own_lines = patch.object(batch, "_line", id)
    small = patch.object(limits, "PAYLOAD_BYTES_MAX", 2), patch.object(batch, "UNIFORM_MIN", 3)
    with own_lines, small[0], small[1]:
        together = await batch._judged_uniform(request.uniform, ())
        for i, (told, judged) in enumerate(zip(asked, together, strict=True)):
            alone = [judge("", job) for job in _apart(told)]
            of_shared = judge(f"uniform[{i}].shared.", told.shared)
            if isinstance(of_shared, InvalidField):
                assert _told(judged) == of_shared.violations
                continue
            assert not isinstance(judged, InvalidField)
            assert isinstance(judged, UniformJobs) == (
                len(alone) >= 3 and all(isinstance(job, NewJob) for job in alone)
            )
            assert [_in_columns(job) for job in judged] == [
                _in_columns(job, {"job_id": f"uniform[{i}].job_ids[{n}]",
                                  "payload": f"uniform[{i}].payloads[{n}]"})
                for n, job in enumerate(alone)
            ]  # fmt: skip


def _apart(told: job_service_pb2.UniformJobs) -> list[job_pb2.NewJob]:
    each = []
    for n, payload in enumerate(told.payloads):
        job = job_pb2.NewJob(payload=payload)
        job.MergeFrom(told.shared)
        job.job_id = str(uuid.UUID(bytes=told.job_ids[16 * n : 16 * n + 16]))
        each.append(job)
    return each


def _in_columns(judged: NewJob | InvalidField, names: Mapping[str, str] = {}) -> object:
    if isinstance(judged, InvalidField):
        return [names.get(violation.field, violation.field) for violation in judged.violations]
    return judged


def _told(judged: object) -> object:
    return judged.violations if isinstance(judged, InvalidField) else judged
