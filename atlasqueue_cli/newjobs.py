"""Lines and flags made jobs, on the wire.

A line is a NewJob in the JSON of the contract, fields as `jobId` or `job_id`; besides `payload` (base64) there
are `payloadText` (UTF-8) and `payloadJson` (any JSON value, written compactly). Bounds are judged by the
server, which names field and bound; here only what cannot be sent is refused.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
from collections.abc import Callable, Mapping
from typing import Any

from atlasqueue.v1 import job_pb2
from atlasqueue_cli.lines import BadLine

# What fits beside others into a message of 4 MiB.
JOB_BYTES_MAX = 3 * 1024 * 1024


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise BadLine(f"must be a string, not {_kind_of(value)}")
    return value


def _base64(value: Any) -> bytes:
    try:
        text = _string(value).translate({ord("-"): "+", ord("_"): "/"})
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadLine("must be base64; write payloadText for text, payloadJson for JSON") from None


def _compact(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**31:
        raise BadLine(f"must be an integer, not {_kind_of(value)}")
    return value


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise BadLine("must be an object of strings")
    return value


def _message(name: str) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        from google.protobuf.json_format import ParseDict, ParseError

        try:
            return getattr(ParseDict({name: value}, job_pb2.NewJob()), name)
        except ParseError as error:
            raise BadLine(_told(str(error), name)) from None

    return parse


EXPECTED = {
    "run_at": 'must be a time as in "2030-01-31T08:00:00Z"',
    "deadline": 'must be seconds as in "90s"',
    "retry_policy": "is no retry policy",
}


def _told(text: str, name: str) -> str:
    return EXPECTED[name] + (f": {text}" if name == "retry_policy" else "")


# By the name in the contract: the field that it sets and how its JSON is read.
FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "queue": ("queue", _string),
    "job_id": ("job_id", _string),
    "kind": ("kind", _string),
    "payload": ("payload", _base64),
    "payload_text": ("payload", lambda value: _string(value).encode()),
    "payload_json": ("payload", _compact),
    "headers": ("headers", _headers),
    "priority": ("priority", _integer),
    "run_at": ("run_at", _message("run_at")),
    "deadline": ("deadline", _message("deadline")),
    "retry_policy": ("retry_policy", _message("retry_policy")),
}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


NAMES = {spelt: name for name in FIELDS for spelt in (name, _camel(name))}


def job_from_line(text: bytes, defaults: job_pb2.NewJob, job_id: str) -> job_pb2.NewJob:
    """The job of a line; what it leaves out is as in `defaults`. Raises BadLine."""
    tree = _read(text)
    job = job_pb2.NewJob()
    job.CopyFrom(defaults)
    job.job_id = job_id
    seen: set[str] = set()
    for spelt, value in tree.items():
        name = NAMES.get(spelt)
        if name is None:
            raise BadLine(_unknown(spelt))
        target, parse = FIELDS[name]
        if target in seen:
            raise BadLine(f"{target} is given twice")
        seen.add(target)
        # As in the contract's JSON, null is as if it were not there.
        if value is not None or name == "payload_json":
            _set(job, spelt, target, parse, value)
    return checked(job)


def job_from_payload(text: bytes, defaults: job_pb2.NewJob, job_id: str) -> job_pb2.NewJob:
    """A job whose payload is the line itself. Raises BadLine."""
    job = job_pb2.NewJob()
    job.CopyFrom(defaults)
    job.job_id = job_id
    job.payload = text
    return checked(job)


def checked(job: job_pb2.NewJob) -> job_pb2.NewJob:
    """The job, if it can be sent at all. Raises BadLine."""
    for field in ("queue", "kind"):
        if not getattr(job, field):
            raise BadLine(
                f"names no {field}; write it in the line, or give --{field} for all lines"
            )
    size = job.ByteSize()
    if size > JOB_BYTES_MAX:
        raise BadLine(
            f"is a job of {size:,} bytes; a payload has at most 1,048,576".replace(",", " ")
        )
    return job


def _set(
    job: job_pb2.NewJob, spelt: str, target: str, parse: Callable[[Any], Any], value: Any
) -> None:
    try:
        read = parse(value)
        if target == "headers":
            job.headers.update(read)
        elif target in ("run_at", "deadline", "retry_policy"):
            getattr(job, target).CopyFrom(read)
        else:
            setattr(job, target, read)
    except BadLine as error:
        raise BadLine(f"{spelt} {error}") from None
    except RecursionError:
        raise BadLine(f"{spelt} is nested too deeply") from None
    except UnicodeEncodeError:
        raise BadLine(f"{spelt} holds half of a surrogate pair, which no UTF-8 can carry") from None
    except (ValueError, TypeError) as error:
        raise BadLine(f"{spelt}: {error}") from None


def _read(text: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(text.decode(), object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadLine(f"is not UTF-8 at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise BadLine(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise BadLine("is nested too deeply") from None
    except BadLine:
        raise
    except ValueError as error:
        raise BadLine(f"is not JSON that can be read: {error}") from None
    if not isinstance(tree, dict):
        raise BadLine(f"must be a JSON object, not {_kind_of(tree)}")
    return tree


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadLine(f"has {twice!r} twice")
    return tree


def _no_constant(name: str) -> Any:
    raise BadLine(f"is not JSON: {name} is no number")


def _unknown(spelt: str) -> str:
    near = difflib.get_close_matches(spelt, NAMES, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    return f"has an unknown field {spelt!r}{guess}"


def _kind_of(value: Any) -> str:
    names: Mapping[type, str] = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
