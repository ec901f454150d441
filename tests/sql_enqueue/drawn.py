"""Jobs to enqueue, sound and broken, as the RPC is sent them and as the function is called."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

from atlasqueue.v1 import job_pb2
from atlasqueue_server.model import limits
from tests.badinput.cases import INT32, NAMES

S = 1_000_000
HOUR = 3600 * S
# Fields by the names of the function's parameters; durations and times are microseconds.
Fields = Mapping[str, Any]

# How each parameter is written; what has no cast here has the type of its Python value.
CASTS = {
    "payload": "::bytea",
    "job_id": "::uuid",
    "headers": "::jsonb",
    "run_at": "::interval",
    "deadline": "::interval",
    "initial_backoff": "::interval",
    "max_backoff": "::interval",
    "multiplier": "::double precision",
}
INTERVALS = ("run_at", "deadline", "initial_backoff", "max_backoff")
# Bounds of an interval that PostgreSQL can read and of a Duration that protobuf can make.
FAR_US = 9_000_000_000_000_000_000


def _around(*values: int) -> list[int]:
    return [value + step for value in values for step in (-1, 0, 1)]


def _at(offset: int) -> int:
    return int(time.time() * S) + offset


NIL = str(uuid.UUID(int=0))
AHEAD = limits.RUN_AT_AHEAD_S_MAX * S
HEADERS_BYTES = limits.HEADERS_BYTES_MAX
NAMES_AT_BOUNDS = ["q", "a" * limits.NAME_CHARS_MAX, "a" * (limits.NAME_CHARS_MAX + 1), "0._-", ""]

# At the bounds and just beyond them, within and far outside; each is compared in every run.
EDGES: dict[str, list[Any]] = {
    "queue": NAMES_AT_BOUNDS,
    "kind": [*NAMES_AT_BOUNDS, "a\n", "-a", "é", "a\0"],
    "payload": [b"", b"\0", *(bytes(n) for n in _around(limits.PAYLOAD_BYTES_MAX))],
    "job_id": [
        str(uuid.uuid4()),
        str(uuid.uuid4()).upper(),
        NIL,
        "1",
        "0" * 35,
        "g" * 36,
        f"urn:uuid:{NIL}",
        f"{NIL}0",
        "a\0",
        "é",
    ],
    "headers": [
        {},
        {str(n): "" for n in range(limits.HEADERS_MAX)},
        {str(n): "" for n in range(limits.HEADERS_MAX + 1)},
        {"k": "v" * (HEADERS_BYTES - 1)},
        {"k": "v" * HEADERS_BYTES},
        {"k": "é" * (HEADERS_BYTES // 2 - 1), "l": ""},
        {"k": "é" * (HEADERS_BYTES // 2), "l": ""},
        {"k" * limits.HEADER_KEY_CHARS_MAX: "v"},
        {"k" * (limits.HEADER_KEY_CHARS_MAX + 1): "v"},
        {"\U0001f600" * limits.HEADER_KEY_CHARS_MAX: "v"},
        {"": "v"},
        {"a": "b\0c"},
        {"a\0": "b"},
        {"traceparent": "00-1", "a": "b"},
        {"a": '"\\\u2028\u0001\x7f', "b": "\ufeff\uffff"},
    ],
    "priority": [*_around(limits.PRIORITY_MIN, limits.PRIORITY_MAX), *INT32],
    "run_at": [
        *_around(0),
        *(_at(offset) for offset in (-HOUR, HOUR, AHEAD - HOUR, AHEAD + HOUR)),
        253_402_300_799 * S + 999_999,
        -62_135_596_800 * S,
    ],
    "deadline": [*_around(limits.DEADLINE_S_MIN * S, limits.DEADLINE_S_MAX * S), -FAR_US, FAR_US],
    "max_attempts": [*_around(limits.MAX_ATTEMPTS_MIN, limits.MAX_ATTEMPTS_MAX), *INT32],
    "initial_backoff": [*_around(0, 999, limits.BACKOFF_INITIAL_S_MAX * S), -FAR_US, FAR_US],
    "multiplier": [
        limits.BACKOFF_MULTIPLIER_MIN,
        limits.BACKOFF_MULTIPLIER_MAX,
        math.nextafter(limits.BACKOFF_MULTIPLIER_MIN, 0),
        math.nextafter(limits.BACKOFF_MULTIPLIER_MAX, 11),
        0.0,
        -1.0,
        math.nan,
        math.inf,
        -math.inf,
        5e-324,
    ],
    "max_backoff": [*_around(0, limits.BACKOFF_CAP_S_MAX * S), -FAR_US, FAR_US],
}

# Whether a time near now has come, and one ten years ahead is too far, is the clock's to say: none is
# drawn within an hour of either.
_RUN_ATS = (
    st.integers(-HOUR, -S)
    | st.integers(HOUR, 1000 * HOUR)
    | st.integers(AHEAD - 2 * HOUR, AHEAD - HOUR)
    | st.integers(AHEAD + HOUR, 2 * AHEAD)
).map(_at)
_SOUND_NAMES = st.from_regex(limits.NAME_PATTERN, fullmatch=True)

_BETWEEN: dict[str, st.SearchStrategy[Any]] = {
    "queue": _SOUND_NAMES | NAMES,
    "kind": _SOUND_NAMES | NAMES,
    "payload": st.binary(max_size=50),
    "job_id": st.uuids().map(str),
    "headers": st.dictionaries(st.text(max_size=8), st.text(), max_size=6),
    "priority": st.integers(-1, 7),
    "run_at": st.integers(0, HOUR) | _RUN_ATS,
    "deadline": st.integers(0, 2 * limits.DEADLINE_S_MAX * S) | st.integers(-FAR_US, FAR_US),
    "max_attempts": st.integers(-1, 2 * limits.MAX_ATTEMPTS_MAX),
    "initial_backoff": st.integers(-S, 2 * limits.BACKOFF_INITIAL_S_MAX * S),
    "multiplier": st.floats(0.5, 11) | st.floats(),
    "max_backoff": st.integers(-S, 2 * limits.BACKOFF_CAP_S_MAX * S),
}
STRATEGIES = {name: st.sampled_from(EDGES[name]) | _BETWEEN[name] for name in EDGES}


@st.composite
def fields(draw: st.DrawFn) -> Fields:
    """A sound job of which some fields are drawn: at, within or beyond their bounds."""
    chosen = draw(st.sets(st.sampled_from(sorted(STRATEGIES)), max_size=4))
    return {"queue": "q", "kind": "k"} | {name: draw(STRATEGIES[name]) for name in sorted(chosen)}


def to_proto(job: Fields) -> job_pb2.NewJob:
    """As the RPC is sent it."""
    made = job_pb2.NewJob()
    for name, value in job.items():
        target = made.retry_policy if name in RETRY_FIELDS else made
        if name == "headers":
            made.headers.update(value)
        elif name == "run_at":
            made.run_at.CopyFrom(Timestamp(seconds=value // S, nanos=value % S * 1000))
        elif name in INTERVALS:
            getattr(target, name).CopyFrom(_duration(value))
        else:
            setattr(target, name, value)
    return made


RETRY_FIELDS = frozenset(field.name for field in job_pb2.RetryPolicy.DESCRIPTOR.fields)


def _duration(us: int) -> Duration:
    sign = -1 if us < 0 else 1
    return Duration(seconds=sign * (abs(us) // S), nanos=sign * (abs(us) % S * 1000))


def to_call(job: Fields) -> tuple[str, dict[str, Any]]:
    """As the function is called: the statement and its parameters."""
    written = {
        name: f"{name} => "
        + ("timestamptz 'epoch' + " if name == "run_at" else "")
        + f"%({name})s{CASTS.get(name, '')}"
        for name in job
    }
    values = dict(job)
    if "headers" in job:
        values["headers"] = json.dumps(job["headers"])
    values |= {name: f"{job[name]} microseconds" for name in INTERVALS if name in job}
    return f"select atlasqueue.enqueue({', '.join(written.values())})", values
