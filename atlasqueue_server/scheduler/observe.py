"""What /metrics tells of the scheduler: who leads, and how far each loop is behind."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from atlasqueue_server.scheduler.leader import Leader


class LoopCollector(Collector):
    """Reads the loops when it is asked, so that a loop that hangs is seen to."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader

    def collect(self) -> Iterator[Metric]:
        """The metrics; lag is 0 on a server that does not lead."""
        leading = GaugeMetricFamily("atlasqueue_scheduler_leading", "1 while this server leads.")
        leading.add_metric([], float(self._leader.leading))
        yield leading
        term = GaugeMetricFamily(
            "atlasqueue_scheduler_term", "The term under which this server leads or last led."
        )
        term.add_metric([], self._leader.led_term)
        yield term
        lag = GaugeMetricFamily(
            "atlasqueue_scheduler_loop_lag_seconds",
            "How long a loop's next tick is overdue; 0 while on time or not leading.",
            labels=["loop"],
        )
        ticks = CounterMetricFamily(
            "atlasqueue_scheduler_loop_ticks", "Ticks of a loop.", labels=["loop", "outcome"]
        )
        for loop in self._leader.loops:
            lag.add_metric([loop.name], loop.lag_s)
            ticks.add_metric([loop.name, "ok"], loop.ticks)
            ticks.add_metric([loop.name, "failed"], loop.failed_ticks)
        yield lag
        yield ticks
