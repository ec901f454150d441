"""What the comments of the contract promise is what model/limits.py holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atlasqueue_server.model import limits as of

PROTO = Path(__file__).parents[2] / "proto" / "atlasqueue" / "v1"


def _comments(name: str) -> str:
    """The comments of a file, in one line."""
    lines = (PROTO / name).read_text("utf-8").splitlines()
    text = " ".join(line.strip().removeprefix("//").strip() for line in lines)
    return re.sub(r"\s+", " ", text)


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 10_000 else f"{value:g}"


def _bytes(value: int) -> str:
    for unit, size in (("MiB", of.MIB), ("KiB", of.KIB)):
        if value % size == 0:
            return f"{value // size} {unit}"
    return f"{value} bytes"


def _span(seconds: float) -> str:
    for unit, size in (("years", 365 * 86_400), ("days", 86_400), ("h", 3600)):
        if seconds and seconds % size == 0 and seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


JOB, WORKER = "job.proto", "worker_service.proto"
JOBS, QUEUES = "job_service.proto", "queue_service.proto"
PROMISES = [
    (JOB, f"matches {of.NAME_PATTERN}"),
    (JOB, f"At most {_number(of.QUEUES_MAX)} queues."),
    (JOB, f"Opaque bytes for the handler. At most {_bytes(of.PAYLOAD_BYTES_MAX)}; default empty."),
    (JOB, f"At most {of.HEADERS_MAX} entries and {_bytes(of.HEADERS_BYTES_MAX)} in all"),
    (JOB, f"a key has 1 to {of.HEADER_KEY_CHARS_MAX} characters"),
    (
        JOB,
        f"{of.PRIORITY_MIN} is most urgent, {of.PRIORITY_MAX} least; default {of.PRIORITY_DEFAULT}.",
    ),
    (JOB, f"at most {_span(of.RUN_AT_AHEAD_S_MAX)} ahead"),
    (JOB, f"{_span(of.DEADLINE_S_MIN)} to {_span(of.DEADLINE_S_MAX)}; default: no deadline"),
    (JOB, f"{of.MAX_ATTEMPTS_MIN} to {of.MAX_ATTEMPTS_MAX}; default {of.MAX_ATTEMPTS_DEFAULT}."),
    (
        JOB,
        f"0 s to {_span(of.BACKOFF_INITIAL_S_MAX)}; default"
        f" {_span(of.BACKOFF_INITIAL_MS_DEFAULT / 1000)}.",
    ),
    (
        JOB,
        f"{of.BACKOFF_MULTIPLIER_MIN:g} to {of.BACKOFF_MULTIPLIER_MAX:g};"
        f" default {of.BACKOFF_MULTIPLIER_DEFAULT:g}.",
    ),
    (
        JOB,
        f"0 s to {_span(of.BACKOFF_CAP_S_MAX)}; default {_span(of.BACKOFF_CAP_MS_DEFAULT / 1000)}.",
    ),
    (JOB, f"At most {_bytes(of.ERROR_TYPE_BYTES_MAX)}."),
    (JOB, f"What happened, for people. At most {_bytes(of.ERROR_MESSAGE_BYTES_MAX)}."),
    (JOB, f"Stack trace. At most {_bytes(of.ERROR_STACK_BYTES_MAX)}."),
    (JOB, f"0 to {of.PROGRESS_PERCENT_MAX}."),
    (JOB, f"A word for people. At most {_bytes(of.PROGRESS_NOTE_BYTES_MAX)}."),
    (JOB, f"what the handler returned. At most {_bytes(of.RESULT_BYTES_MAX)}."),
    (JOB, f"a heartbeat brought. At most {_bytes(of.CHECKPOINT_BYTES_MAX)}."),
    (JOB, f"oldest first; the newest {of.FAILURES_SHOWN_MAX}."),
    (JOB, f"Its lease was lost {of.CRASH_CAP} times (the crash cap)"),
    (JOB, f"{of.UNKNOWN_KIND_DELIVERIES_MAX} deliveries reached workers"),
    (JOBS, f"the message is over {_bytes(of.MESSAGE_BYTES_MAX)}"),
    (JOBS, f"Stores up to {_number(of.BATCH_ITEMS_MAX)} jobs."),
    (JOBS, f"1 to {of.PAGE_SIZE_MAX}; default {of.PAGE_SIZE_DEFAULT} (also for 0)"),
    (WORKER, f"1 to {of.SESSION_QUEUES_MAX}, each once"),
    (WORKER, f"at once, 1 to {_number(of.SLOTS_MAX)}."),
    (WORKER, f"How many jobs at most, 1 to {of.LEASE_ONCE_JOBS_MAX}; default 1"),
    (WORKER, f"0 s to {of.LEASE_ONCE_WAIT_S_MAX} s; default 0 s"),
    (WORKER, f"A ping will come so often ({_span(of.PING_INTERVAL_S)})"),
    (WORKER, f"At most {_bytes(of.RESULT_BYTES_MAX)}."),
    (WORKER, f"At most {_bytes(of.CHECKPOINT_BYTES_MAX)}."),
    (WORKER, f"scheduled for {of.UNKNOWN_KIND_DELAY_S} s without spending an attempt"),
    (WORKER, f"after {of.UNKNOWN_KIND_DELIVERIES_MAX} such deliveries a dead letter"),
    (WORKER, f"0 s to {_span(of.DELAY_S_MAX)}; default: backoff"),
    (WORKER, f"1 to {_number(of.BATCH_ITEMS_MAX)} outcomes"),
    (
        QUEUES,
        f"1 to {_number(of.BATCH_ITEMS_MAX)}; default {_number(of.BATCH_ITEMS_MAX)} (also for 0)",
    ),
]


@pytest.mark.parametrize(("file", "promise"), PROMISES, ids=[p[1][:50] for p in PROMISES])
def test_promise_is_in_the_contract(file: str, promise: str) -> None:
    assert promise in _comments(file)


def test_sizes_leave_room_for_the_envelope() -> None:
    """The largest job that can be stored can also be sent: alone, with all that goes with it."""
    largest = of.PAYLOAD_BYTES_MAX + of.HEADERS_BYTES_MAX + of.CHECKPOINT_BYTES_MAX
    assert largest + of.RESULT_BYTES_MAX < of.MESSAGE_CUT_BYTES < of.MESSAGE_BYTES_MAX
    history = of.ERROR_TYPE_BYTES_MAX + of.ERROR_MESSAGE_BYTES_MAX + of.ERROR_STACK_BYTES_MAX
    whole = largest + of.RESULT_BYTES_MAX + of.FAILURES_SHOWN_MAX * (history + 100)
    assert whole < of.MESSAGE_BYTES_MAX
