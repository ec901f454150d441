"""How a handler ends: by returning a result, or by raising (or returning) one of these.

Whatever else a handler raises is a failed attempt, retried with backoff.
"""

from __future__ import annotations

import inspect
import json
import traceback
from datetime import timedelta
from typing import Any

from atlasqueue.jobs import to_duration
from atlasqueue.v1 import job_pb2, worker_service_pb2

RESULT_BYTES_MAX = 256 * 1024
ERROR_TYPE_BYTES_MAX = 256
ERROR_MESSAGE_BYTES_MAX = 4 * 1024
ERROR_STACK_BYTES_MAX = 16 * 1024
DELAY_MAX = timedelta(days=3650)

JobOutcome = worker_service_pb2.JobOutcome


class HandlerOutcome(Exception):
    """Base of what a handler may raise or return to end otherwise than with a result."""

    # What a handler in a process of its own said went wrong; reported as it is.
    job_error: job_pb2.JobError | None = None


class Retry(HandlerOutcome):
    """The attempt failed; try again after `after` (default: the policy's backoff).

    Raises ValueError unless `after` is 0 s to 10 years.
    """

    def __init__(self, message: str = "retry", *, after: timedelta | float | None = None) -> None:
        super().__init__(message)
        self.after = _delta(after)


class Snooze(HandlerOutcome):
    """Not now: run again after `delay` (seconds or timedelta), without spending an attempt.

    Raises ValueError unless `delay` is 0 s to 10 years.
    """

    def __init__(self, delay: timedelta | float) -> None:
        super().__init__(f"snoozed for {delay}")
        self.delay = _delta(delay) or timedelta()


class Cancel(HandlerOutcome):
    """The job is cancelled, by its own handler."""


class Reject(HandlerOutcome):
    """The job can never succeed: a dead letter at once."""


class Release(HandlerOutcome):
    """Not here: ready again at once, without spending an attempt."""


def _delta(value: timedelta | float | None) -> timedelta | None:
    delta = timedelta(seconds=value) if isinstance(value, int | float) else value
    if delta is not None and not timedelta() <= delta <= DELAY_MAX:
        raise ValueError(f"a delay must be 0 s to 10 years, not {delta}")
    return delta


def encode_result(value: Any) -> bytes:
    """A handler's return value as bytes: None is empty, bytes as they are, text as UTF-8, else JSON.

    Raises TypeError or ValueError for what JSON cannot hold (NaN is none), RecursionError for what is nested too deep,
    and what the value's own methods raise.
    """
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError(
            "the handler returned a coroutine, which nobody awaits: what stands around an async handler "
            "must be an async function too"
        )
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def verb_of(outcome: JobOutcome | None) -> str:
    """The verb that an outcome asks for; no message stands for a complete without a result."""
    return "complete" if outcome is None else outcome.WhichOneof("outcome") or ""


def completed(outcome: JobOutcome, value: Any) -> JobOutcome:
    """Fills in what a returned value means. A result that cannot be kept makes a dead letter."""
    if isinstance(value, HandlerOutcome):
        return ended(outcome, value)
    try:
        result = encode_result(value)
    except BaseException as error:
        # Too deep for JSON, or with a method that raises what it likes: none of it may end the worker.
        outcome.reject.error.CopyFrom(job_error(error))
        return outcome
    if len(result) > RESULT_BYTES_MAX:
        message = f"the result has {len(result)} bytes, at most {RESULT_BYTES_MAX} can be kept"
        outcome.reject.error.CopyFrom(job_pb2.JobError(type="ResultTooLarge", message=message))
        return outcome
    outcome.complete.result = result
    return outcome


def ended(outcome: JobOutcome, error: BaseException) -> JobOutcome:
    """Fills in what a raised exception means."""
    match error:
        case Snooze():
            outcome.snooze.delay.CopyFrom(to_duration(error.delay))
        case Cancel():
            outcome.cancel.SetInParent()
        case Release():
            outcome.release.SetInParent()
        case Reject():
            outcome.reject.error.CopyFrom(job_error(error))
        case Retry():
            outcome.fail.error.CopyFrom(job_error(error))
            if error.after is not None:
                outcome.fail.retry_after.CopyFrom(to_duration(error.after))
        case _:
            outcome.fail.error.CopyFrom(job_error(error))
    return outcome


def job_error(error: BaseException) -> job_pb2.JobError:
    """What went wrong, cut to what the contract holds; of a long stack the end is kept."""
    if isinstance(error, HandlerOutcome) and error.job_error is not None:
        return error.job_error
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    stack = "".join(traceback.format_exception(error))
    return job_pb2.JobError(
        type=cut_text(name, ERROR_TYPE_BYTES_MAX),
        message=cut_text(_text(error), ERROR_MESSAGE_BYTES_MAX),
        stack=cut_text(stack, ERROR_STACK_BYTES_MAX, keep_end=True),
    )


def no_exit(error: SystemExit | KeyboardInterrupt) -> RuntimeError:
    """What it stands for in a handler, which does not end the worker."""
    return RuntimeError(f"the handler raised {type(error).__name__}: {_text(error)}")


def error_name(error: BaseException) -> str:
    """The exception's class without its module; of a handler in a process of its own, what it raised there."""
    told = error.job_error if isinstance(error, HandlerOutcome) else None
    return type(error).__name__ if told is None else told.type.rpartition(".")[2]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        # SystemExit too: this runs where it would end the worker.
        return "(the exception's own text cannot be had)"


def cut_text(text: str, bytes_max: int, *, keep_end: bool = False) -> str:
    """Text as the contract takes it: no NUL, UTF-8, at most so many bytes, the first ones or the last ones."""
    clean = text.replace("\0", "\ufffd").encode("utf-8", "replace")
    kept = clean[-bytes_max:] if keep_end else clean[:bytes_max]
    return kept.decode("utf-8", "ignore")
