"""Requests that must be refused: a sound request for each RPC, and for each of its fields what breaks its bound.

Each case is a sound request but for one field, so that the refusal can only be for that field, and a
server that took it would store something.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

from atlasqueue.v1 import job_pb2, job_service_pb2, queue_service_pb2, worker_service_pb2
from atlasqueue_server.domain.pages import Order, PageToken
from atlasqueue_server.model import limits

QUEUE = "hostile"
DAY_S = 86_400
INT32 = (-(2**31), 2**31 - 1)
INT64 = (-(2**63), 2**63 - 1)
SQL = "'; drop table atlasqueue.jobs; --"


@dataclass(frozen=True)
class Held:
    """A job that is leased, so that reports and heartbeats have something to break."""

    session_id: int
    job_id: str
    fence: int


def sound(rpc: str, held: Held) -> Any:
    """A request that the server would take."""
    lease: dict[str, Any] = {"queue": QUEUE, "job_id": held.job_id, "fence": held.fence}
    job = job_pb2.NewJob(queue=QUEUE, kind="k", job_id=str(uuid.uuid4()))
    match rpc:
        case "Enqueue":
            return job_service_pb2.EnqueueRequest(job=job)
        case "EnqueueBatch":
            return job_service_pb2.EnqueueBatchRequest(jobs=[job])
        case "GetJob" | "CancelJob" | "WatchJob":
            request = getattr(job_service_pb2, f"{rpc}Request")
            return request(queue=QUEUE, job_id=held.job_id)
        case "ListJobs":
            return job_service_pb2.ListJobsRequest(queue=QUEUE)
        case "CancelJobs":
            # Of a kind that nobody enqueues: what others hold must stand when all was refused.
            return job_service_pb2.CancelJobsRequest(queue=QUEUE, kind="nobody")
        case "Lease":
            return worker_service_pb2.LeaseRequest(queues=[QUEUE], slots=1, worker="w")
        case "LeaseOnce":
            return worker_service_pb2.LeaseOnceRequest(queues=[QUEUE], worker="w")
        case "Heartbeat":
            one = worker_service_pb2.HeldJob(**lease, checkpoint=b"new")
            return worker_service_pb2.HeartbeatRequest(
                session_id=held.session_id, epoch=1, held=[one], last_fence=held.fence
            )
        case "Report":
            done = worker_service_pb2.JobOutcome(**lease, complete=worker_service_pb2.Complete())
            return worker_service_pb2.ReportRequest(outcomes=[done])
        case "RedriveDeadLetters" | "PurgeDeadLetters":
            request = getattr(queue_service_pb2, f"{rpc}Request")
            return request(queue=QUEUE, filter=queue_service_pb2.DeadLetterFilter())
        case "ListQueues" | "ListWorkers" | "GetCluster":
            return getattr(queue_service_pb2, f"{rpc}Request")()
        case "UpdateQueuePolicy":
            policy = queue_service_pb2.QueuePolicy(visibility_timeout=Duration(seconds=5))
            return queue_service_pb2.UpdateQueuePolicyRequest(queue=QUEUE, policy=policy)
        case _:
            return getattr(queue_service_pb2, f"{rpc}Request")(queue=QUEUE)


def sound_uniform() -> job_service_pb2.EnqueueBatchRequest:
    """A batch in its other form that the server would take."""
    job_ids = uuid.uuid4().bytes
    shared = job_pb2.NewJob(queue=QUEUE, kind="k")
    jobs = job_service_pb2.UniformJobs(shared=shared, job_ids=job_ids, payloads=[b""])
    return job_service_pb2.EnqueueBatchRequest(uniform=[jobs])


def put(message: Any, path: str, value: Any) -> None:
    """Sets the field at a path such as outcomes[0].fail.retry_after; of a oneof the last one set wins."""
    *parents, last = path.split(".")
    for parent in parents:
        name, _, index = parent.partition("[")
        message = getattr(message, name)
        if index:
            message = message[int(index.rstrip("]"))]
    if isinstance(value, Message):
        getattr(message, last).CopyFrom(value)
    elif isinstance(value, dict):
        getattr(message, last).update(value)
    elif isinstance(value, list):
        del getattr(message, last)[:]
        getattr(message, last).extend(value)
    else:
        setattr(message, last, value)


# -- what breaks a bound ------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["", "-a", ".a", "a b", "a\n", "a/b", "é", "a\0", "a" * 129, "a" * 10_000, SQL, "\U0001f600"]
) | st.text(max_size=200).filter(lambda text: not limits.NAME.match(text))
SOME_NAMES = NAMES.filter(bool)

_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_FIXED = "01a21058-2a5a-75fc-81ce-e89cda5539bd"
IDS = st.sampled_from(
    [
        "1",
        SQL,
        "0" * 36,
        _FIXED.replace("-", ""),
        f"{{{_FIXED}}}",
        f"urn:uuid:{_FIXED}",
        f"{_FIXED}\n",
        "00000000-0000-0000-0000-000000000000",
        "٣" * 8 + _FIXED[8:],
        _FIXED[:-1] + "\x00",
    ]
) | st.text(min_size=1, max_size=60).filter(lambda text: not _ID.match(text))
TOKENS = st.sampled_from(
    # A lone surrogate, another type, a float, a number too large, what is no object, an id that is none.
    [
        "eyJuYW1lIjoiXHVkODAwIn0",
        "eyJzZXEiOnRydWV9",
        "eyJzZXEiOjFlMzB9",
        "eyJzZXEiOiA5MjIzMzcyMDM2ODU0Nzc1ODA4fQ",
        "WzFd",
        "eyJqb2JfaWQiOiJ6In0",
        "!",
        "a" * 513,
        "\x00",
    ]
) | st.text(min_size=1, max_size=600)
# Sound tokens, but of lists that go by something else.
_TOKENS_OF = {
    order: PageToken(**fields).encode()
    for order, fields in {
        Order.JOB_ID: {"job_id": _FIXED},
        Order.DISPATCH: {"priority": 3, "seq": 7},
        Order.NAME: {"name": QUEUE},
        Order.SESSION: {"seq": 7},
    }.items()
}
LONG_TEXTS = st.sampled_from(["\0", "nul\0inside", "x" * (16 * 1024 + 1), "é" * 8193])


def outside(least: int, most: int, of: tuple[int, int] = INT32) -> st.SearchStrategy[int]:
    """Numbers beyond a bound, on both sides where there is room."""
    sides = [st.integers(most + 1, of[1])] if most < of[1] else []
    return st.one_of(*sides, st.integers(of[0], least - 1))


def _is_within(seconds: int, nanos: int, least_s: int, most_s: int) -> bool:
    if abs(nanos) > 999_999_999 or (seconds > 0 > nanos) or (seconds < 0 < nanos):
        return False
    return least_s * 10**9 <= seconds * 10**9 + nanos <= most_s * 10**9


def durations(least_s: int, most_s: int) -> st.SearchStrategy[Duration]:
    """Durations beyond a bound, or that are none."""
    seconds = st.integers(*INT64) | st.integers(-2, most_s + 2) | st.just(10**12)
    nanos = st.integers(*INT32) | st.sampled_from([-1, 1, 999_999_999, 10**9])
    return (
        st.tuples(seconds, nanos)
        .filter(lambda it: not _is_within(*it, least_s, most_s))
        .map(lambda it: Duration(seconds=it[0], nanos=it[1]))
    )


def times(most_s: int) -> st.SearchStrategy[Timestamp]:
    """Times before 1970 or after `most_s`, or that are none."""
    seconds = st.integers(INT64[0], -1) | st.integers(most_s, INT64[1]) | st.just(253_402_300_799)
    none = st.integers(INT32[0], -1) | st.integers(10**9, INT32[1])
    return st.builds(Timestamp, seconds=seconds) | st.builds(
        Timestamp, seconds=st.just(1), nanos=none
    )


RUN_ATS = times(int(time.time()) + 11 * 365 * DAY_S)
TIMES = times(253_402_300_800)
STATES = st.integers(*INT32).filter(lambda n: n not in job_pb2.JobState.values())
REASONS = st.integers(*INT32).filter(lambda n: n not in job_pb2.DeadLetterReason.values())
MULTIPLIERS = st.floats(allow_nan=True, allow_infinity=True).filter(lambda x: not 1 <= x <= 10)
HEADERS = st.sampled_from(
    [
        {"": "x"},
        {"k" * 129: "x"},
        {"k": "\x00"},
        {"\x00": "v"},
        {"k": "v" * 8192},
        {f"k{i}": "v" for i in range(33)},
    ]
)


@dataclass(frozen=True)
class Case:
    """A field of an RPC's request, what breaks its bound, and the field that the refusal must name."""

    rpc: str
    path: str
    values: st.SearchStrategy[Any]
    named: str

    def request(self, held: Held, value: Any) -> Any:
        """The request with the value in it."""
        message = sound_uniform() if self.path in UNIFORM else sound(self.rpc, held)
        put(message, self.path, value)
        return message


def _case(rpc: str, path: str, values: st.SearchStrategy[Any], named: str | None = None) -> Case:
    return Case(rpc, path, values, named or path)


def _each(
    rpcs: str, path: str, values: st.SearchStrategy[Any], named: str | None = None
) -> list[Case]:
    return [_case(rpc, path, values, named) for rpc in rpcs.split()]


def _policy(rpc: str, at: str) -> list[Case]:
    return [
        _case(rpc, f"{at}.max_attempts", outside(1, 1000)),
        _case(rpc, f"{at}.initial_backoff", durations(0, 3600)),
        _case(rpc, f"{at}.multiplier", MULTIPLIERS),
        _case(rpc, f"{at}.max_backoff", durations(0, 7 * DAY_S)),
    ]


def _new_job(rpc: str, at: str) -> list[Case]:
    return [
        _case(rpc, f"{at}.queue", NAMES),
        _case(rpc, f"{at}.kind", NAMES),
        _case(rpc, f"{at}.job_id", IDS),
        _case(rpc, f"{at}.priority", outside(1, 5)),
        _case(rpc, f"{at}.run_at", RUN_ATS),
        _case(rpc, f"{at}.deadline", durations(1, 7 * DAY_S)),
        _case(rpc, f"{at}.headers", HEADERS),
        _case(rpc, f"{at}.payload", st.just(b"x" * (limits.PAYLOAD_BYTES_MAX + 1))),
        *_policy(rpc, f"{at}.retry_policy"),
    ]


def _shared(rpc: str, at: str) -> list[Case]:
    own = ("job_id", "payload")
    return [
        *(case for case in _new_job(rpc, at) if not case.path.endswith(own)),
        _case(rpc, f"{at}.job_id", IDS | st.just(_FIXED), at),
        _case(rpc, f"{at}.payload", st.binary(min_size=1, max_size=20), at),
    ]


def _lease(rpc: str, at: str) -> list[Case]:
    return [
        _case(rpc, f"{at}.queue", NAMES),
        _case(rpc, f"{at}.job_id", IDS | st.just("")),
        _case(rpc, f"{at}.fence", outside(1, INT64[1], INT64)),
    ]


def _foreign_tokens(rpcs: str, order: Order) -> list[Case]:
    tokens = st.sampled_from([text for of, text in _TOKENS_OF.items() if of is not order])
    return _each(rpcs, "page_token", tokens)


def _repeated(count: int) -> Callable[[Any], list[Any]]:
    return lambda item: [item] * count


def _columns(**bad: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Completed jobs that are sound but for some fields."""
    good = {"queue": QUEUE, "job_ids": b"i" * 16, "fences": [7]}
    fields = {name: st.just(value) for name, value in good.items()} | bad
    return st.builds(worker_service_pb2.CompletedJobs, **fields).map(_repeated(1))


_ANY_JOB = job_pb2.NewJob(queue=QUEUE, kind="k")
_OF_QUEUE = "GetQueue PauseQueue ResumeQueue GetDepth ListJobs CancelJobs ListDeadLetters"
_ONE_JOB = "GetJob CancelJob WatchJob"
_BOTH = "RedriveDeadLetters PurgeDeadLetters"
_DELAYS = durations(0, limits.DELAY_S_MAX)

UNIFORM_CASES = [
    *_shared("EnqueueBatch", "uniform[0].shared"),
    _case(
        "EnqueueBatch",
        "uniform[0].job_ids",
        st.binary(max_size=48).filter(lambda ids: len(ids) != 16) | st.just(bytes(1_000_000)),
    ),
    _case("EnqueueBatch", "uniform[0].job_ids", st.just(bytes(16)), "uniform[0].job_ids[0]"),
    _case("EnqueueBatch", "uniform[0].payloads", st.sampled_from([[], [b"", b""]]), "uniform[0]."),
    _case(
        "EnqueueBatch",
        "uniform[0].payloads",
        st.just([bytes(limits.PAYLOAD_BYTES_MAX + 1)]),
        "uniform[0].payloads[0]",
    ),
    _case(
        "EnqueueBatch",
        "uniform[0].payloads",
        st.just(b"").map(_repeated(10_001)),
        "jobs and uniform",
    ),
    _case(
        "EnqueueBatch",
        "uniform",
        st.just(job_service_pb2.UniformJobs()).map(_repeated(10_001)),
    ),
]
# Sound but for what is at these paths is a batch in its other form.
UNIFORM = {case.path for case in UNIFORM_CASES}

CASES: list[Case] = [
    *_new_job("Enqueue", "job"),
    *_new_job("EnqueueBatch", "jobs[0]"),
    *UNIFORM_CASES,
    _case("EnqueueBatch", "jobs", st.just([])),
    _case("EnqueueBatch", "jobs", st.just(_ANY_JOB).map(_repeated(10_001))),
    *_each(_ONE_JOB, "queue", SOME_NAMES),
    *_each(_ONE_JOB, "job_id", IDS | st.just("")),
    *_each(f"{_OF_QUEUE} {_BOTH} UpdateQueuePolicy", "queue", NAMES),
    *_each("ListJobs CancelJobs", "state", STATES),
    _case("CancelJobs", "state", st.sampled_from([4, 5, 6])),
    *_each("ListJobs CancelJobs", "kind", SOME_NAMES),
    *_each("ListJobs CancelJobs", "created_after", TIMES),
    *_each("ListJobs CancelJobs", "created_before", TIMES),
    *_each("ListJobs ListDeadLetters ListQueues ListWorkers", "page_size", outside(0, 1000)),
    *_each("ListJobs CancelJobs ListDeadLetters ListQueues ListWorkers", "page_token", TOKENS),
    *_foreign_tokens("ListJobs CancelJobs ListDeadLetters", Order.JOB_ID),
    *_foreign_tokens("ListQueues", Order.NAME),
    *_foreign_tokens("ListWorkers", Order.SESSION),
    *_each(f"ListDeadLetters {_BOTH}", "filter.kind", SOME_NAMES),
    *_each(f"ListDeadLetters {_BOTH}", "filter.reason", REASONS),
    *_each(f"ListDeadLetters {_BOTH}", "filter.died_before", TIMES),
    *_each(_BOTH, "max_jobs", outside(0, 10_000)),
    *_each(_BOTH, "job_ids", st.just([_FIXED])),
    *_each(_BOTH, "job_ids", IDS.map(_repeated(1)), "job_ids"),
    *_each(_BOTH, "job_ids", st.just(_FIXED).map(_repeated(10_001))),
    *_policy("UpdateQueuePolicy", "policy.retry_policy"),
    _case("UpdateQueuePolicy", "policy.visibility_timeout", durations(1, 12 * 3600)),
    _case(
        "UpdateQueuePolicy",
        "update_mask",
        (st.text(max_size=50) | st.sampled_from(["*", "policy", "visibility_timeout.seconds", SQL]))
        .filter(lambda path: not path.startswith(("retry_policy", "visibility_timeout\0")))
        .filter(lambda path: path != "visibility_timeout")
        .map(lambda path: FieldMask(paths=["visibility_timeout", path])),
    ),
    *_each("Lease LeaseOnce", "queues", st.sampled_from([[], ["a", "a"]])),
    *_each("Lease LeaseOnce", "queues", st.just([f"q{i}" for i in range(101)])),
    *_each("Lease LeaseOnce", "queues", NAMES.map(_repeated(1)), "queues[0]"),
    *_each("Lease LeaseOnce", "worker", NAMES),
    *_each("Lease LeaseOnce", "session_id", outside(0, INT64[1], INT64)),
    _case("Lease", "slots", outside(1, 10_000)),
    _case("Lease", "session_id", st.integers(1, INT64[1]), "epoch"),
    _case("Lease", "epoch", outside(0, INT64[1], INT64)),
    _case("Lease", "last_fence", outside(0, INT64[1], INT64)),
    _case("LeaseOnce", "max_jobs", outside(0, 1000)),
    _case("LeaseOnce", "wait", durations(0, 60)),
    *_lease("Heartbeat", "held[0]"),
    _case("Heartbeat", "session_id", outside(1, INT64[1], INT64)),
    _case("Heartbeat", "epoch", outside(0, INT64[1], INT64)),
    _case("Heartbeat", "last_fence", outside(0, INT64[1], INT64)),
    _case("Heartbeat", "held[0].progress.percent", outside(0, 100)),
    _case("Heartbeat", "held[0].progress.note", LONG_TEXTS),
    _case("Heartbeat", "held[0].checkpoint", st.just(b"x" * (64 * 1024 + 1))),
    *_lease("Report", "outcomes[0]"),
    _case("Report", "outcomes", st.just([])),
    _case("Report", "completed", _columns(queue=NAMES), "completed[0].queue"),
    _case(
        "Report",
        "completed",
        _columns(fences=outside(1, INT64[1], INT64).map(_repeated(1))),
        "completed[0].fences",
    ),
    _case("Report", "completed", _columns(fences=st.just([])), "completed[0].fences"),
    _case(
        "Report",
        "completed",
        _columns(job_ids=st.binary(max_size=64).filter(lambda ids: len(ids) != 16)),
        "completed[0].job_ids",
    ),
    # With the outcome that is there, one too many.
    _case(
        "Report",
        "completed",
        _columns(fences=st.just([7] * 10_000), job_ids=st.just(b"i" * 160_000)),
        "outcomes and completed",
    ),
    _case("Report", "session_id", outside(0, INT64[1], INT64)),
    _case("Report", "outcomes[0].complete.result", st.just(b"x" * (256 * 1024 + 1))),
    _case("Report", "outcomes[0].fail.error.type", LONG_TEXTS),
    _case("Report", "outcomes[0].fail.error.message", LONG_TEXTS),
    _case("Report", "outcomes[0].fail.error.stack", LONG_TEXTS),
    _case("Report", "outcomes[0].reject.error.stack", LONG_TEXTS),
    _case("Report", "outcomes[0].fail.retry_after", _DELAYS),
    _case("Report", "outcomes[0].snooze.delay", _DELAYS),
]
