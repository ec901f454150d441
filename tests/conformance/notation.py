"""How cases write what JSON has no word for, and what is expected.

bytes       {text: "é"}   {base64: "AP8="}   {fill: "x", bytes: 1048576}     under the keys of BYTES
long text   {fill: "x", bytes: 5000}                                        under any other key
times       {from_now_s: 3600}                                              seconds from now
variables   $job is the value of a step with `as: job`, $job.failures.0 a part of it; ${queue} within text
expected    a mapping names the fields that count; a list counts whole; and
            {at_least: 1}   {more_than: 1}   {at_most: 1}   {one_of: [a, b]}   {contains: x}
            {from_now_s: [3000, 4000]}
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from typing import Any

BYTES = frozenset({"payload", "result", "checkpoint", "complete"})
SHOWN_BYTES = 60
VARIABLE = re.compile(r"\$(\w+(?:\.\w+)*)$")
WITHIN_TEXT = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")


class Unknown(ValueError):
    """A case names a variable that no step has set."""


def substitute(value: Any, variables: Mapping[str, Any]) -> Any:
    """The value with its variables filled in. Raises Unknown."""
    if isinstance(value, Mapping):
        return {key: substitute(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [substitute(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value
    if whole := VARIABLE.match(value):
        return _look_up(whole[1], variables)
    return WITHIN_TEXT.sub(lambda found: str(_look_up(found[1], variables)), value)


def _look_up(path: str, variables: Mapping[str, Any]) -> Any:
    found: Any = variables
    for name in path.split("."):
        try:
            found = found[int(name)] if isinstance(found, list) else found[name]
        except (KeyError, IndexError, TypeError):
            raise Unknown(f"${path} is not set") from None
    return found


def to_wire(value: Any, key: str = "") -> Any:
    """What an executor is sent: bytes as base64, times as seconds since 1970."""
    if isinstance(value, Mapping):
        if key in BYTES:
            return base64.b64encode(to_bytes(value)).decode()
        if set(value) == {"fill", "bytes"}:
            return to_bytes(value).decode()
        if set(value) == {"from_now_s"}:
            return time.time() + float(value["from_now_s"])
        return {name: to_wire(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [to_wire(inner) for inner in value]
    return value


def to_bytes(value: Mapping[str, Any]) -> bytes:
    """Bytes from their notation. Raises ValueError for anything else."""
    match dict(value):
        case {"text": str(text), **rest} if not rest:
            return text.encode()
        case {"base64": str(text), **rest} if not rest:
            return base64.b64decode(text, validate=True)
        case {"fill": str(text), "bytes": int(size), **rest} if not rest and text:
            return (text.encode() * size)[:size]
    raise ValueError(f"{value} does not say which bytes")


def mismatches(expected: Any, found: Any, where: str = "") -> list[str]:
    """What differs from what is expected, one line each; empty when nothing does."""
    key = re.sub(r"\[\d+\]$", "", where).rpartition(".")[2]
    if key in BYTES and isinstance(expected, Mapping):
        return _bytes_mismatches(expected, found, where)
    if isinstance(expected, Mapping):
        return _mapping_mismatches(dict(expected), found, where)
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return [f"{where}: {_short(found)} is not a list of {len(expected)}"]
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for i, (e, f) in pairs for line in mismatches(e, f, f"{where}[{i}]")]
    if expected != found or isinstance(expected, bool) is not isinstance(found, bool):
        return [f"{where}: {_short(found)}, expected {_short(expected)}"]
    return []


def _bytes_mismatches(expected: Mapping[str, Any], found: Any, where: str) -> list[str]:
    try:
        content = base64.b64decode(found, validate=True)
    except (TypeError, ValueError):
        return [f"{where}: {_short(found)} is no base64"]
    wanted = to_bytes(expected)
    if content == wanted:
        return []
    return [f"{where}: {_short_bytes(content)}, expected {_short_bytes(wanted)}"]


def _mapping_mismatches(expected: dict[str, Any], found: Any, where: str) -> list[str]:
    match expected:
        case {"fill": _, "bytes": _, **rest} if not rest:
            return mismatches(to_bytes(expected).decode(), found, where)
        case {"at_least": bound, **rest} if not rest:
            fits = _is_number(found) and found >= bound
        case {"more_than": bound, **rest} if not rest:
            fits = _is_number(found) and found > bound
        case {"at_most": bound, **rest} if not rest:
            fits = _is_number(found) and found <= bound
        case {"one_of": choices, **rest} if not rest:
            fits = found in choices
        case {"contains": part, **rest} if not rest:
            fits = isinstance(found, str | list) and part in found
        case {"from_now_s": [low, high], **rest} if not rest:
            fits = _is_number(found) and low <= found - time.time() <= high
        case _:
            return _field_mismatches(expected, found, where)
    return [] if fits else [f"{where}: {_short(found)}, expected {expected}"]


def _field_mismatches(expected: dict[str, Any], found: Any, where: str) -> list[str]:
    if not isinstance(found, Mapping):
        return [f"{where}: {_short(found)} has no fields"]
    if not expected and found:
        return [f"{where}: {_short(found)}, expected nothing"]
    lines = []
    for name, value in expected.items():
        path = f"{where}.{name}" if where else name
        if name in found:
            lines += mismatches(value, found[name], path)
        else:
            lines.append(f"{path}: is missing")
    return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 3 * SHOWN_BYTES else f"{text[: 3 * SHOWN_BYTES]}…"


def _short_bytes(value: bytes) -> str:
    return repr(value) if len(value) <= SHOWN_BYTES else f"{value[:20]!r}… of {len(value)} bytes"
