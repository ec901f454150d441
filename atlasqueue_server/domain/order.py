"""The order of dispatch: in which order a lease looks into the priorities, and who gets what it finds.

Strict priority would starve the rest for ever, so one job of ten is leased lower priorities first. That
share is kept over time by a debt, so it also holds for leases of a single job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from atlasqueue_server.model import limits

S = TypeVar("S")

PRIORITIES = tuple(range(limits.PRIORITY_MIN, limits.PRIORITY_MAX + 1))


def interleave(hands: Iterable[tuple[S, int]], most: int) -> list[S]:
    """Up to `most` slots, dealt in rounds to (session, credit) pairs so that none waits for another."""
    left = [(session, credit) for session, credit in hands if credit > 0]
    dealt: list[S] = []
    while left and len(dealt) < most:
        # As many rounds at once as all can take part in, and no more than it takes.
        rounds = min(-(-(most - len(dealt)) // len(left)), *(credit for _, credit in left))
        dealt += [session for session, _ in left] * rounds
        left = [(session, credit - rounds) for session, credit in left if credit > rounds]
    return dealt[:most]


class Reserve:
    """Decides how much of each lease goes to lower priorities first, and to which one."""

    def __init__(self) -> None:
        self._debt = 0
        self._turn = 0

    def split(self, jobs: int) -> tuple[int, int]:
        """(strict, reserved) of a lease of `jobs`; over time at least a tenth is reserved."""
        reserved, self._debt = divmod(self._debt + jobs, limits.PRIORITY_RESERVE_SHARE)
        return jobs - reserved, reserved

    def lower_first(self) -> Sequence[int]:
        """Priorities for the reserved part: a lower one first, another each time, the highest last."""
        lower = PRIORITIES[1:]
        self._turn = (self._turn + 1) % len(lower)
        return (*lower[self._turn :], *lower[: self._turn], PRIORITIES[0])
