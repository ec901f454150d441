"""Durations and times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from atlasqueue_cli.errors import UsageError

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
SECOND = timedelta(seconds=1)


def duration(text: str, option: str) -> timedelta:
    """`90s`, `1h30m`, `500ms`, `7d`. Raises UsageError, naming the option."""
    parts = PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"{option}: {text!r} is no duration", "write 500ms, 90s, 10m, 1h30m or 7d")
    try:
        return timedelta(seconds=sum(float(number) * SECONDS[unit] for number, unit in parts))
    except OverflowError:
        raise UsageError(f"{option}: {text!r} is too long") from None


def moment(text: str, option: str, now: datetime | None = None) -> datetime:
    """A time of ISO 8601 (`2030-01-31T08:00:00Z`; local time without a zone) or an age (`2h` ago).

    Raises UsageError, naming the option.
    """
    if PART.match(text) and text[-1].isalpha():
        try:
            return (now or datetime.now(UTC)) - duration(text, option)
        except OverflowError:
            raise UsageError(f"{option}: {text!r} is too long ago") from None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option}: {text!r} is no time",
            "write 2030-01-31T08:00:00Z, or an age as in 2h, which means two hours ago",
        ) from None


def span(length: timedelta) -> str:
    """A length in the two largest units that it has: `3d4h`, `12s`, `250ms`."""
    seconds = length / SECOND
    if seconds < 0:
        return "-" + span(-length)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms" if seconds else "0s"
    parts = []
    rest = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])
