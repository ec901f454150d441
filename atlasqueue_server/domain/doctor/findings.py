"""What a check says, and the register of checks.

    @check("dead rows", "tables")
    def dead_rows(facts: Facts) -> Iterable[Finding]:
        ...                      nothing: all is well

A check is a pure function of the facts that it names. It runs only when all of them could be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from atlasqueue_server.store.examine import Facts, Unseen


class Level(IntEnum):
    """How bad a finding is. PROBLEM: wrong now; WARNING: will be, or may be; NOTE: could be better."""

    OK = 0
    NOTE = 1
    UNSEEN = 2
    WARNING = 3
    PROBLEM = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence on what is so, one on why it matters, and what to do: SQL or commands to copy."""

    level: Level
    found: str
    why: str = ""
    remedy: tuple[str, ...] = ()
    check: str = ""


Check = Callable[[Facts], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Registered:
    """A check, its name and the facts that it needs (fields of Facts)."""

    name: str
    needs: tuple[str, ...]
    run: Check


CHECKS: Final[list[Registered]] = []


def check(name: str, *needs: str) -> Callable[[Check], Check]:
    """Registers the function below."""

    def register(run: Check) -> Check:
        CHECKS.append(Registered(name, needs, run))
        return run

    return register


def unseen_of(registered: Registered, facts: Facts) -> str:
    """Why a check cannot be made, or ""."""
    for field in registered.needs:
        value = getattr(facts, field)
        if isinstance(value, Unseen):
            return value.why
    return ""


def span(seconds: float) -> str:
    """A span of time for people: `1 h 3 min`."""
    whole = int(seconds)
    for size, unit, smaller, small_unit in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def number(count: int) -> str:
    """A number for people: `1 234 567`."""
    return f"{count:,}".replace(",", " ")
