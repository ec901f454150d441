"""Medians, paired ratios and the noise of a run. Pure arithmetic, no clock.

A run is made of rounds; in each round every variant is measured once, and the first one (the base)
twice. A round's ratio compares neighbours in time, so what slows the machine down for minutes
cancels out; the two measurements of the base (the A/A pair) show what is left.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of some values, and how many there were."""

    median: float
    low: float
    high: float
    count: int

    def as_dict(self) -> dict[str, float | int]:
        """For the JSON document."""
        return {"median": self.median, "low": self.low, "high": self.high, "count": self.count}


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value. Raises ValueError when there is none."""
    if not values:
        raise ValueError("no values: nothing was measured")
    return Spread(statistics.median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank).

    Raises ValueError when there are no values or `percent` is outside of 0 to 100.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError("a percentile needs values, and a percent from 0 to 100")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, round by round; rounds in which either is not above zero are left out."""
    return [a / b for a, b in zip(ours, theirs, strict=False) if a > 0 and b > 0]


def noise(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The A/A spread: the largest relative difference of a round's two measurements of one thing.

    0.07 means that two runs of the same differed by up to 7 %. None without a pair.
    """
    pairs = ratios(first, second)
    return max((max(ratio, 1 / ratio) - 1 for ratio in pairs), default=None)


def slope_per_minute(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of (seconds, value), per minute. Raises ValueError below two points."""
    if len(points) < 2:
        raise ValueError("a slope needs two points")
    return statistics.linear_regression(*zip(*points, strict=True)).slope * 60


def by_metric(samples: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Metric name → its value in each sample that has it, in order."""
    names = dict.fromkeys(name for sample in samples for name in sample)
    return {name: [s[name] for s in samples if s.get(name) is not None] for name in names}
