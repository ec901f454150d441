"""CPU time and memory of processes, from /proc (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the name in parentheses, which may hold spaces.
    return text.rpartition(")")[2].split()


def children(pid: int) -> list[int]:
    """The living direct children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            continue
    return found


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    return [pid, *(each for child in children(pid) for each in tree(child))]


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of processes and of all their descendants, ended ones included.

    The ended ones are known by what their parent has waited for (cutime, cstime).
    """
    total = 0
    for pid in {each for root in pids for each in tree(root)}:
        fields = _stat(pid)
        if fields is not None:
            # utime, stime, cutime, cstime: fields 14 to 17 of proc(5), counted from the state.
            total += sum(map(int, fields[11:15]))
    return total * _TICK_S


def rss_bytes(pid: int) -> int:
    """Resident memory of one process; 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def parent(pid: int) -> int | None:
    """The parent's id; None when the process is not on this machine."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def name(pid: int) -> str:
    """The program's name; empty when the process is not on this machine."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
