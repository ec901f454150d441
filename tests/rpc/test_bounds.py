"""What stands exactly at its bound is taken; tests/badinput has what is beyond.

It showed when bounds were moved by one on purpose: refusals were tested, and of what is just allowed little.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from atlasqueue.v1 import job_pb2, queue_service_pb2, worker_service_pb2
from atlasqueue_server.model import limits
from atlasqueue_server.rpc import convert_in
from atlasqueue_server.rpc.validate import Checker

JOB_ID = "01A21058-2A5A-75FC-81CE-E89CDA5539BD"
LONGEST = "a" * limits.NAME_CHARS_MAX


def text(size: int) -> str:
    """Text of so many bytes, of two to a character."""
    return "é" * (size // 2)


def seconds(count: int) -> Duration:
    return Duration(seconds=count)


def headers() -> dict[str, str]:
    """As many headers, as long a key and as many bytes as there may be."""
    held = {f"{n:02}": "" for n in range(limits.HEADERS_MAX - 1)}
    key = "k" * limits.HEADER_KEY_CHARS_MAX
    used = len("".join(held)) + len(key)
    return held | {key: "v" * (limits.HEADERS_BYTES_MAX - used)}


PLAIN = {"queue": LONGEST, "kind": LONGEST, "job_id": JOB_ID}
MOST = job_pb2.NewJob(
    **PLAIN,
    payload=bytes(limits.PAYLOAD_BYTES_MAX),
    priority=limits.PRIORITY_MAX,
    headers=headers(),
    run_at=Timestamp(seconds=int(time.time()) + limits.RUN_AT_AHEAD_S_MAX - 1),
    deadline=seconds(limits.DEADLINE_S_MAX),
    retry_policy=job_pb2.RetryPolicy(
        max_attempts=limits.MAX_ATTEMPTS_MAX,
        initial_backoff=seconds(limits.BACKOFF_INITIAL_S_MAX),
        multiplier=limits.BACKOFF_MULTIPLIER_MAX,
        max_backoff=seconds(limits.BACKOFF_CAP_S_MAX),
    ),
)
LEAST = job_pb2.NewJob(
    queue="q",
    kind="k",
    priority=limits.PRIORITY_MIN,
    headers={"k": ""},
    run_at=Timestamp(),
    deadline=seconds(limits.DEADLINE_S_MIN),
    retry_policy=job_pb2.RetryPolicy(
        max_attempts=limits.MAX_ATTEMPTS_MIN,
        initial_backoff=seconds(0),
        multiplier=limits.BACKOFF_MULTIPLIER_MIN,
        max_backoff=seconds(0),
    ),
)


@pytest.mark.parametrize("job", [MOST, LEAST], ids=["most", "least"])
def test_a_job(job: job_pb2.NewJob) -> None:
    check = Checker()
    convert_in.new_job(check, job)
    assert check.violations == []


def test_a_plain_job_takes_the_short_way_with_the_same_result() -> None:
    for priority in (limits.PRIORITY_MIN, limits.PRIORITY_MAX):
        job = job_pb2.NewJob(**PLAIN, payload=MOST.payload, priority=priority)
        sound = convert_in.sound_job(job)
        assert sound is not None
        assert sound == convert_in.new_job(Checker(), job)


def test_what_a_worker_asks_for() -> None:
    queues = [f"q{n}" for n in range(limits.SESSION_QUEUES_MAX)]
    check = Checker()
    for names, slots, number in (queues, limits.SLOTS_MAX, limits.INT64_MAX), (["q"], 1, 0):
        request = worker_service_pb2.LeaseRequest(queues=names, slots=slots, worker="w")
        request.session_id = request.epoch = request.last_fence = number
        convert_in.lease_terms(check, request)
    for jobs, wait_s in (limits.LEASE_ONCE_JOBS_MAX, limits.LEASE_ONCE_WAIT_S_MAX), (1, 0):
        once = worker_service_pb2.LeaseOnceRequest(queues=queues, max_jobs=jobs, worker="w")
        once.wait.CopyFrom(seconds(wait_s))
        assert convert_in.lease_once_terms(check, once)[1] == wait_s
    assert check.violations == []


def test_what_a_worker_tells_of_its_jobs() -> None:
    check = Checker()
    for fence, percent in (1, 0), (limits.INT64_MAX, limits.PROGRESS_PERCENT_MAX):
        held = worker_service_pb2.HeldJob(queue="q", job_id=JOB_ID, fence=fence)
        held.progress.percent = percent
        held.progress.note = text(limits.PROGRESS_NOTE_BYTES_MAX)
        held.checkpoint = bytes(limits.CHECKPOINT_BYTES_MAX)
        convert_in.held_job(check, "held[0]", held)
    error = job_pb2.JobError(
        type=text(limits.ERROR_TYPE_BYTES_MAX),
        message=text(limits.ERROR_MESSAGE_BYTES_MAX),
        stack=text(limits.ERROR_STACK_BYTES_MAX),
    )
    outcomes: list[dict[str, Any]] = [
        {"complete": worker_service_pb2.Complete(result=bytes(limits.RESULT_BYTES_MAX))},
        {"fail": worker_service_pb2.Fail(error=error, retry_after=seconds(limits.DELAY_S_MAX))},
        {"reject": worker_service_pb2.Reject(error=error)},
        {"snooze": worker_service_pb2.Snooze(delay=seconds(limits.DELAY_S_MAX))},
        {"snooze": worker_service_pb2.Snooze(delay=seconds(0))},
    ]
    told = [
        worker_service_pb2.JobOutcome(queue="q", job_id=JOB_ID, fence=n + 1, **outcome)
        for n, outcome in enumerate(outcomes)
    ]
    given = convert_in.outcomes(check, told)
    assert check.violations == []
    # Also by the short way an id is one id, however it is written.
    assert {outcome.job_id for outcome in given} == {JOB_ID.lower()}


def test_a_queue_and_a_page() -> None:
    check = Checker()
    for timeout_s in limits.VISIBILITY_TIMEOUT_S_MIN, limits.VISIBILITY_TIMEOUT_S_MAX:
        policy = queue_service_pb2.QueuePolicy(visibility_timeout=seconds(timeout_s))
        assert convert_in.queue_policy(check, "", policy).visibility_timeout_ms == 1000 * timeout_s
    for size in 1, limits.PAGE_SIZE_MAX:
        assert check.page_size(size) == size
    check.page_token("t" * limits.PAGE_TOKEN_CHARS_MAX)
    check.count("jobs", limits.BATCH_ITEMS_MAX, 1, limits.BATCH_ITEMS_MAX)
    assert check.violations == []
