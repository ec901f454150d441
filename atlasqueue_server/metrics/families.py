"""Counters and histograms that take a whole batch in one call.

prometheus_client counts one observation after the other, under a lock, at about a microsecond each; a
job may cost less than that in all. These belong to one event loop; a scrape reads them from a thread and
sees each series whole, since it copies it in one step.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from atlasqueue.buckets import SECONDS

SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)

Labels = tuple[str, ...]


class CounterFamily(Collector):
    """A counter. `name` without `_total`."""

    def __init__(
        self, registry: CollectorRegistry, name: str, help_text: str, labels: Sequence[str] = ()
    ) -> None:
        self._name, self._help, self._labels = name, help_text, tuple(labels)
        self._values: defaultdict[Labels, float] = defaultdict(float)
        if not labels:
            self._values[()] = 0.0
        registry.register(self)

    def inc(self, labels: Labels = (), amount: float = 1) -> None:
        """Counts `amount` more."""
        self._values[labels] += amount

    def describe(self) -> list[Metric]:
        """What it is, without its values."""
        return [CounterMetricFamily(self._name, self._help, labels=self._labels)]

    def collect(self) -> Iterator[Metric]:
        """The counter now."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for labels, value in sorted(self._values.copy().items()):
            family.add_metric(labels, value)
        yield family


class HistogramFamily(Collector):
    """A histogram; `bounds` are the upper ones of its buckets, +Inf left out."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        bounds: Sequence[float] = SECONDS,
    ) -> None:
        self._name, self._help, self._labels = name, help_text, tuple(labels)
        self._bounds = tuple(bounds)
        # By labels: how many in each bucket, those above the last bound, and the sum.
        self._series: dict[Labels, list[float]] = {}
        if not labels:
            self._of(())
        registry.register(self)

    def _of(self, labels: Labels) -> list[float]:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = [0.0] * (len(self._bounds) + 2)
        return series

    def observe(self, labels: Labels, value: float, times: int = 1) -> None:
        """Notes `value`, `times` times."""
        series = self._of(labels)
        series[bisect_left(self._bounds, value)] += times
        series[-1] += value * times

    def observe_all(self, labels: Labels, values: Sequence[float]) -> None:
        """Notes each of the values."""
        # Sorted, each bound is looked for once, not once a value; those of a batch are nearly sorted.
        ordered = sorted(values)
        series = self._of(labels)
        below = 0
        for bucket, bound in enumerate(self._bounds):
            upto = bisect_right(ordered, bound, below)
            series[bucket] += upto - below
            below = upto
        series[-2] += len(ordered) - below
        series[-1] += sum(ordered)

    def describe(self) -> list[Metric]:
        """What it is, without its values."""
        return [HistogramMetricFamily(self._name, self._help, labels=self._labels)]

    def collect(self) -> Iterator[Metric]:
        """The histogram now."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        names = [f"{float(bound)!r}" for bound in self._bounds] + ["+Inf"]
        for labels, live in sorted(self._series.copy().items()):
            series = live.copy()
            buckets = list(zip(names, accumulate(series[:-1]), strict=True))
            family.add_metric(labels, buckets=buckets, sum_value=series[-1])
        yield family
