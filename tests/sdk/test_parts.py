"""The parts of the SDK that need no server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

import atlasqueue
from atlasqueue.batches import BATCH_BYTES, BATCH_ITEMS, batches
from atlasqueue.channel import parse_addresses
from atlasqueue.errors import (
    BY_REASON,
    AtlasQueueError,
    InvalidField,
    Unavailable,
    Violation,
    from_status,
)
from atlasqueue.ids import new_job_ids
from atlasqueue.jobs import (
    DeadLetterReason,
    Failure,
    FailureCause,
    Job,
    JobState,
    NewJob,
    RetryPolicy,
    job_from_proto,
    new_job_to_proto,
    retry_policy_to_proto,
)
from atlasqueue.queues import (
    Cluster,
    Depth,
    Server,
    WorkerSession,
    cluster_from_proto,
    depth_from_proto,
    worker_from_proto,
)
from atlasqueue.retry import Backoff
from atlasqueue.v1 import errors_pb2, job_pb2, queue_service_pb2

ROOT = Path(__file__).parents[2]


def test_the_public_surface_is_complete_and_sorted() -> None:
    public = [name for name in vars(atlasqueue) if not name.startswith("_")]
    modules = [name for name in public if type(getattr(atlasqueue, name)).__name__ == "module"]
    assert sorted(set(public) - set(modules)) == atlasqueue.__all__
    assert atlasqueue.__all__ == sorted(atlasqueue.__all__)


# Reasons that only HTTP gives; no call of the SDK can meet them.
REST_ONLY = {
    "PATH_NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "BODY_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "FOREIGN_ORIGIN",
}


def test_every_reason_of_the_contract_has_a_class() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}
    assert set(BY_REASON) == names - REST_ONLY - {"UNSPECIFIED"}


def test_an_error_is_told_by_its_reason_not_by_its_text() -> None:
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="QUEUE_NOT_FOUND job queue")
    info = error_details_pb2.ErrorInfo(reason="JOB_NOT_FOUND", domain="atlasqueue")
    status.details.add().Pack(info)
    assert type(from_status(status)) is atlasqueue.JobNotFound
    assert type(from_status(status_pb2.Status(code=code_pb2.NOT_FOUND))) is AtlasQueueError
    assert type(from_status(status_pb2.Status(code=code_pb2.UNAVAILABLE))) is Unavailable
    info.domain = "another.example"
    status.details[0].Pack(info)
    assert type(from_status(status)) is AtlasQueueError


def test_a_reason_that_only_a_newer_server_knows_is_told_by_its_code() -> None:
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="NEW", domain="atlasqueue"))
    assert type(from_status(status)) is Unavailable


def test_violations_name_field_and_bound() -> None:
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT)
    broken = error_details_pb2.BadRequest()
    broken.field_violations.add(field="job.kind", description="must be a name")
    status.details.add().Pack(broken)
    info = error_details_pb2.ErrorInfo(reason="INVALID_FIELD", domain="atlasqueue")
    status.details.add().Pack(info)
    error = from_status(status)
    assert isinstance(error, InvalidField)
    assert error.violations == (Violation("job.kind", "must be a name"),)


def test_a_job_comes_over_whole() -> None:
    """Each field has a value of its own here, so that none can stand for another."""
    at = [datetime(2026, 1, 1, 0, n, tzinfo=UTC) for n in range(6)]
    retries = RetryPolicy(7, timedelta(seconds=2), 3.0, timedelta(minutes=5))
    job = Job(
        queue="q",
        job_id="an id",
        kind="k",
        state=JobState.DEAD,
        payload=b"payload",
        headers={"a": "b"},
        priority=1,
        attempt=2,
        crashes=3,
        deliveries=4,
        fence=5,
        created_at=at[0],
        run_at=at[1],
        deadline=timedelta(seconds=6),
        retry_policy=retries,
        finished_at=at[2],
        died_at=at[3],
        dead_letter_reason=DeadLetterReason.CRASH_LOOP,
        leased_at=at[4],
        session_id=8,
        cancel_requested=True,
        result=b"result",
        percent=9,
        note="note",
        checkpoint=b"checkpoint",
        failures=[Failure(10, 11, FailureCause.EXPIRED, "type", "message", "stack", at[5])],
    )
    message = job_pb2.Job(
        **{
            name: getattr(job, name)
            for name in (
                "queue job_id kind payload headers priority attempt crashes deliveries fence session_id"
                " cancel_requested result checkpoint created_at run_at deadline finished_at died_at leased_at"
            ).split()
        },
        state=job_pb2.JOB_STATE_DEAD,
        dead_letter_reason=job_pb2.DEAD_LETTER_REASON_CRASH_LOOP,
        retry_policy=retry_policy_to_proto(retries),
        progress=job_pb2.Progress(percent=9, note="note"),
    )
    message.failures.add(
        fence=10,
        attempt=11,
        cause=job_pb2.FAILURE_CAUSE_EXPIRED,
        error=job_pb2.JobError(type="type", message="message", stack="stack"),
        failed_at=at[5],
    )
    assert job_from_proto(message) == job
    bare = job_from_proto(job_pb2.Job(retry_policy=job_pb2.RetryPolicy()))
    assert (bare.percent, bare.note, bare.run_at, bare.retry_policy) == (
        None,
        None,
        None,
        RetryPolicy(),
    )


@pytest.mark.parametrize("state", list(JobState))
def test_a_job_is_settled_when_nothing_moves_it_further(state: JobState) -> None:
    settled = state in (JobState.SUCCEEDED, JobState.CANCELLED, JobState.DEAD)
    assert job_from_proto(job_pb2.Job(state=state.value)).settled is settled


def test_workers_and_cluster_come_over_whole() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    worker = WorkerSession(1, "w", ("p", "q"), 2, 3, True, "s", at, timedelta(seconds=4))
    fields = {name: getattr(worker, name) for name in WorkerSession.__dataclass_fields__}
    assert worker_from_proto(queue_service_pb2.WorkerSession(**fields)) == worker
    message = queue_service_pb2.GetClusterResponse(leader="s", term=5)
    message.servers.add(server_id="s", address="a:1", version="v", started_at=at, leader=True)
    assert cluster_from_proto(message) == Cluster((Server("s", "a:1", "v", at, True),), "s", 5)
    counts = {"scheduled": 1, "ready": 2, "leased": 3, "dead": 4, "succeeded": 5, "cancelled": 6}
    assert depth_from_proto(queue_service_pb2.Depth(**counts)) == Depth(**counts)


def test_what_only_a_newer_server_knows_is_unspecified() -> None:
    """How it showed: one job with a new cause of failure ended a whole list with a ValueError."""
    message = job_pb2.Job(state=99, dead_letter_reason=99)  # type: ignore[arg-type]
    message.failures.add(cause=99)
    job = job_from_proto(message)
    assert (job.state, job.dead_letter_reason, job.failures[0].cause) == (0, 0, 0)


def test_ids_are_version_7_and_ascend() -> None:
    ids = [atlasqueue.new_job_id() for _ in range(5000)]
    assert ids == sorted(set(ids))
    assert {(uuid.UUID(i).version, uuid.UUID(i).variant) for i in ids} == {(7, uuid.RFC_4122)}
    assert all(str(uuid.UUID(i)) == i for i in ids)
    assert len({i[20:] for i in ids}) == len(ids)


def stamp_of(job_id: str) -> int:
    """Its 4096ths of a millisecond."""
    return int(job_id[:8] + job_id[9:13] + job_id[15:18], 16)


def test_ids_that_are_made_together_are_as_those_made_one_by_one() -> None:
    """More than fit into a millisecond, and some of the others between."""
    assert new_job_ids(0) == []
    before = time.time_ns() // 1_000_000
    ids: list[str] = []
    for count in (1, 5000, 0, 2, 3000):
        ids += [*new_job_ids(count), atlasqueue.new_job_id(), atlasqueue.new_job_id()]
    assert ids == sorted(set(ids))
    assert len(ids) == 8013
    assert {(uuid.UUID(i).version, uuid.UUID(i).variant) for i in ids} == {(7, uuid.RFC_4122)}
    assert all(str(uuid.UUID(i)) == i for i in ids)
    assert len({i[20:] for i in ids}) == len(ids)
    # Not one is lost between two that are made together.
    stamps = [stamp_of(i) for i in ids[3 : 3 + 5000]]
    assert stamps == list(range(stamps[0], stamps[0] + 5000))
    assert stamp_of(ids[0]) >> 12 >= before
    assert all(uuid.UUID(i).bytes[8] >> 6 == 0b10 for i in ids)


@pytest.fixture
def threads_take_turns() -> Iterator[None]:
    """Much more often than they would."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("threads_take_turns")
def test_ids_of_several_threads_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also within one tick of the clock, where they are told apart by counting on."""
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    begin = threading.Barrier(4)

    def make(_: int) -> list[str]:
        begin.wait()
        made: list[str] = []
        for count in range(2000):
            made += [*new_job_ids(count % 7), atlasqueue.new_job_id()]
        return made

    with ThreadPoolExecutor(4) as pool:
        each = list(pool.map(make, range(4)))
    stamps = [stamp_of(job_id) for ids in each for job_id in ids]
    assert len(set(stamps)) == len(stamps)
    assert all(ids == sorted(ids) for ids in each)


def test_ids_do_not_go_back_with_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    last = atlasqueue.new_job_id()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    ids = [last, *new_job_ids(3), atlasqueue.new_job_id(), *new_job_ids(2)]
    assert [stamp_of(job_id) - stamp_of(last) for job_id in ids] == list(range(7))


FORKS = """
import os
from atlasqueue import ids
ids.new_job_id()
reader, writer = os.pipe()
with ids._lock:
    child = os.fork()
    if not child:
        os.write(writer, ids.new_job_id().encode())
        os._exit(0)
print(os.read(reader, 36).decode(), ids.new_job_id())
"""


def test_a_child_process_draws_other_ids_than_its_parent() -> None:
    """Where digits for many ids were drawn ahead the child had the rest of them; and it has a lock that nobody gives back."""
    output = subprocess.run(
        [sys.executable, "-c", FORKS], check=True, capture_output=True, text=True, timeout=60
    )
    theirs, ours = output.stdout.split()
    assert theirs[20:] != ours[20:]


def test_batches_keep_their_bounds() -> None:
    small = [NewJob("q", "k") for _ in range(BATCH_ITEMS + 1)]
    assert [len(batch) for batch in batches(small)] == [BATCH_ITEMS, 1]
    large = [NewJob("q", "k", b"x" * (BATCH_BYTES // 2)) for _ in range(3)]
    assert [len(batch) for batch in batches(large)] == [1, 1, 1]
    assert list(batches([])) == []


@pytest.mark.parametrize(
    "bad",
    ["", "host", "host:", ":7420", "host:0", "host:port", ["a:1", "b"], "http://a:1", "::1:7420"],
)
def test_addresses_are_checked(bad: str | list[str]) -> None:
    with pytest.raises(ValueError, match="server address"):
        parse_addresses(bad)


def test_addresses_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATLASQUEUE_ADDRESS", raising=False)
    assert parse_addresses() == ["127.0.0.1:7420"]
    monkeypatch.setenv("ATLASQUEUE_ADDRESS", "a:1, [::1]:2")
    assert parse_addresses() == ["a:1", "[::1]:2"]


def test_backoff_grows_to_its_longest() -> None:
    backoff = Backoff(first=0.1, longest=1.0, uniform=lambda _, ceiling: ceiling)
    assert [backoff.next_delay() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next_delay() == 0.1


def test_backoff_draws_from_zero_on_and_has_no_last_try() -> None:
    """After some 1000 tries the ceiling, were it not bounded on its way, is no number any more."""
    drawn: list[tuple[float, float]] = []
    backoff = Backoff(uniform=lambda low, high: drawn.append((low, high)) or 0.0)  # type: ignore[func-returns-value]
    for _ in range(2000):
        backoff.next_delay()
    assert drawn[0] == (0, 0.1)
    assert drawn[-1] == (0, 5.0)


def test_backoff_goes_on_after_streams_that_end_at_once() -> None:
    """How it showed: a worker opened its stream 20 times a second at a server that ended each one at once."""
    backoff = Backoff(first=0.1, longest=1.0, uniform=lambda _, ceiling: ceiling)
    assert backoff.next_delay() == 0.1
    backoff.reset_if_lived(0.9)
    assert backoff.next_delay() == 0.2
    backoff.reset_if_lived(1.0)
    assert backoff.next_delay() == 0.1


def test_the_blocking_twins_are_up_to_date() -> None:
    command = [sys.executable, "scripts/async_to_sync.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_functions_before_enqueue_are_called_in_order() -> None:
    def tenant(job: NewJob) -> NewJob:
        return replace(job, headers={**(job.headers or {}), "tenant": "ada"})

    def checked(job: NewJob) -> NewJob:
        assert job.headers == {"tenant": "ada"}
        raise PermissionError(job.kind)

    # Nothing listens there: what raises, raises before anything is sent.
    with atlasqueue.Client("127.0.0.1:1", before_enqueue=[tenant, checked]) as client:
        with pytest.raises(PermissionError, match="one"):
            client.enqueue("q", "one")
        with pytest.raises(PermissionError, match="many"):
            client.enqueue_many([NewJob("q", "many")])


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ({"job_id": uuid.uuid4()}, TypeError, "job_id cannot be of type UUID"),
        ({"payload": "text"}, TypeError, "payload cannot be of type str: expected bytes"),
        ({"payload": 5}, TypeError, "payload cannot be of type int: expected bytes"),
        ({"payload": bytearray(b"x")}, TypeError, "payload cannot be of type bytearray"),
        ({"headers": 5}, TypeError, "headers cannot be of type int"),
        ({"queue": ["q"]}, TypeError, "queue cannot be of type list"),
        ({"priority": [3]}, TypeError, "priority cannot be of type list"),
        ({"job_id": "\ud800"}, ValueError, "job_id cannot be '\\\\ud800'"),
        ({"headers": {"a": 1}}, TypeError, "headers cannot be of type dict"),
        ({"priority": 2**40}, ValueError, "priority cannot be 1099511627776: Value out of range"),
        ({"queue": "\ud800"}, ValueError, "queue cannot be '\\\\ud800'"),
        ({"run_at": "2030-01-31"}, TypeError, "must be a datetime with a time zone, not str"),
        ({"run_at": datetime(2030, 1, 31)}, ValueError, "a datetime needs a time zone"),
        (
            {"retry_policy": atlasqueue.RetryPolicy(max_attempts=2**40)},
            ValueError,
            "max_attempts cannot be",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_no_message_can_hold_is_named(
    given: dict[str, Any], kind: type[Exception], says: str
) -> None:
    """How it showed: an id as uuid.UUID was a "bad argument type for built-in operation"; of a payload that is a
    number enqueue_many said, when it was not the first job, that an int has no len()."""
    job = replace(NewJob("q", "k"), **given)
    with pytest.raises(kind, match=says):
        new_job_to_proto(job, job.job_id or "an id")
    for jobs in ([job], [NewJob("q", "k"), job], [NewJob("q", "k")] * 40 + [job]):
        with pytest.raises(kind, match=says):
            list(batches(jobs))


@pytest.mark.parametrize("bad", [{"timeout": 0}, {"timeout": float("nan")}, {"retry_for": -1}])
def test_times_of_a_client_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        atlasqueue.Client(**bad)
