"""Medians, paired ratios, noise, and the order of a round."""

from __future__ import annotations

import pytest

from benchmarks.harness import statistics
from benchmarks.harness.interleave import order, rounds


def test_spread_is_median_and_extremes() -> None:
    assert statistics.spread([3, 1, 10]).as_dict() == {
        "median": 3, "low": 1, "high": 10, "count": 3,
    }  # fmt: skip
    with pytest.raises(ValueError, match="nothing was measured"):
        statistics.spread([])


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert statistics.percentile(values, 50) == 50
    assert statistics.percentile(values, 99) == 99
    assert statistics.percentile(values, 100) == 100
    assert statistics.percentile([7.0], 99) == 7
    for bad in ([], [1.0]):
        with pytest.raises(ValueError, match="percentile"):
            statistics.percentile(bad, 101)


def test_a_ratio_needs_two_values_above_zero() -> None:
    assert statistics.ratios([4, 6, 0, -1], [2, 3, 5, 5]) == [2, 2]


def test_noise_is_the_largest_difference_of_two_runs_of_the_same() -> None:
    assert statistics.noise([100, 100], [110, 80]) == pytest.approx(0.25)
    assert statistics.noise([100], [100]) == 0
    assert statistics.noise([], []) is None


def test_slope_is_per_minute() -> None:
    assert statistics.slope_per_minute([(0, 10), (30, 11), (60, 12)]) == pytest.approx(2)


def test_the_base_stands_at_both_ends_and_the_others_take_turns() -> None:
    assert order(["a", "b", "c"], 0) == [("a", False), ("b", False), ("c", False), ("a", True)]
    assert order(["a", "b", "c"], 1) == [("a", False), ("c", False), ("b", False), ("a", True)]
    assert order(["a"], 4) == [("a", False), ("a", True)]


def test_rounds_measure_every_variant_in_every_round() -> None:
    measures = {name: (lambda name=name: {"work": {"jobs_per_s": ord(name)}}) for name in "ab"}
    samples = list(rounds(measures, 2))
    assert [(s.round, s.variant, s.again) for s in samples] == [
        (0, "a", False), (0, "b", False), (0, "a", True),
        (1, "a", False), (1, "b", False), (1, "a", True),
    ]  # fmt: skip
    assert samples[1].metrics == {"jobs_per_s": 98}
