"""What a worker counts, and the port that tells it: docs/metrics.md is the catalogue.

Off by default; a worker without it pays nothing. Handlers run in the event loop and in threads, so what
they note is appended to lists, which is safe from any thread, and summed up at the next scrape.
"""

from __future__ import annotations

import platform
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from atlasqueue.buckets import SECONDS
from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker.app import Handler
from atlasqueue_worker.job import JobContext, Report
from atlasqueue_worker.outcomes import verb_of

if TYPE_CHECKING:
    from atlasqueue_worker.worker import Worker

STATUSES: Final = {
    number: name.removeprefix("REPORT_STATUS_").lower()
    for name, number in worker_service_pb2.ReportStatus.items()
    if number
}
# No kind begins with an underscore.
UNKNOWN: Final = "_unknown"
# How many runs may wait to be summed up.
RUNS_MAX: Final = 10_000

JobOutcome = worker_service_pb2.JobOutcome
Pair = tuple[str, str]


class WorkerMetrics(Collector):
    """The metrics of one worker. Hand it to the Worker, then `serve`."""

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self._worker: Worker | None = None
        self._handled: set[str] = set()
        self._runs: defaultdict[Pair, list[float]] = defaultdict(list)
        self._buckets: defaultdict[Pair, list[float]] = defaultdict(
            lambda: [0.0] * (len(SECONDS) + 2)
        )
        self._ended: Counter[tuple[str, str, str]] = Counter()
        self._answers: Counter[int] = Counter()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(self)

    def serve(self, host: str, port: int) -> int:
        """Answers GET /metrics in a thread of its own; returns the port. Raises OSError."""
        server, _thread = start_http_server(port, host, self.registry)
        return int(server.server_port)

    def watch(self, worker: Worker, kinds: set[str]) -> None:
        """Whose metrics these are, and the kinds that it has handlers for."""
        self._worker = worker
        self._handled = kinds

    def timed(self, handler: Handler, is_async: bool) -> Handler:
        """The handler, with its runs measured."""
        call: Any = handler
        if is_async:

            async def timed(job: JobContext) -> Any:
                began = time.perf_counter()
                try:
                    return await call(job)
                finally:
                    self._ran(job, time.perf_counter() - began)

            return timed

        def timed_plain(job: JobContext) -> Any:
            began = time.perf_counter()
            try:
                return call(job)
            finally:
                self._ran(job, time.perf_counter() - began)

        return timed_plain

    def _ran(self, job: JobContext, seconds: float) -> None:
        runs = self._runs[job.queue, job.kind]
        runs.append(seconds)
        if len(runs) > RUNS_MAX:
            self._sum_up((job.queue, job.kind))

    def counting(self, report: Report) -> Report:
        """`report`, with outcomes counted."""

        def counted(job: JobContext, outcome: JobOutcome | None) -> None:
            kind = job.kind if job.kind in self._handled else UNKNOWN
            self._ended[job.queue, kind, verb_of(outcome)] += 1
            report(job, outcome)

        return counted

    def answered(self, status: int, outcomes: int = 1) -> None:
        """So many outcomes of a report were answered with `status`."""
        self._answers[status] += outcomes

    def _sum_up(self, pair: Pair) -> None:
        runs, self._runs[pair] = self._runs[pair], []
        series = self._buckets[pair]
        for seconds in runs:
            series[bisect_left(SECONDS, seconds)] += 1
            series[-1] += seconds

    def describe(self) -> list[Metric]:
        """Nothing: the names are its own."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        build = GaugeMetricFamily(
            "atlasqueue_worker_build_info",
            "Versions of the worker and of what it runs on; always 1.",
            labels=["version", "python", "grpcio"],
        )
        build.add_metric(
            [_version("atlasqueue-server"), platform.python_version(), _version("grpcio")], 1
        )
        yield build
        yield from self._state()
        ended = CounterMetricFamily(
            "atlasqueue_worker_jobs_ended",
            "Handlers that have ended.",
            labels=["queue", "kind", "outcome"],
        )
        for labels, count in sorted(self._ended.copy().items()):
            ended.add_metric(labels, count)
        yield ended
        yield self._run_seconds()
        reports = CounterMetricFamily(
            "atlasqueue_worker_reports", "Answers to reports.", labels=["status"]
        )
        for number, name in STATUSES.items():
            reports.add_metric([name], self._answers[number])
        yield reports

    def _state(self) -> Iterator[Metric]:
        worker = self._worker
        if worker is None:
            return
        for name, help_text, value in (
            ("healthy", "1 while it can take jobs and keep them.", worker.healthy),
            ("stream_alive", "1 while its stream is open and was heard.", worker.stream.alive),
            ("heartbeats_answered", "1 while heartbeats are answered.", worker.heartbeats_answered),
            ("slots", "Jobs that it runs at once.", worker.slots),
            ("jobs_held", "Jobs whose report is not answered.", len(worker.held.snapshot()[0])),
            ("jobs_running", "Jobs whose handler runs.", len(worker.executor.running)),
        ):
            family = GaugeMetricFamily(f"atlasqueue_worker_{name}", help_text)
            family.add_metric([], float(value))
            yield family

    def _run_seconds(self) -> Metric:
        family = HistogramMetricFamily(
            "atlasqueue_worker_job_run_seconds", "How long handlers ran.", labels=["queue", "kind"]
        )
        for pair in list(self._runs):
            self._sum_up(pair)
        names = [repr(float(bound)) for bound in SECONDS] + ["+Inf"]
        for pair, series in sorted(self._buckets.copy().items()):
            buckets = list(zip(names, accumulate(series[:-1]), strict=True))
            family.add_metric(pair, buckets=buckets, sum_value=series[-1])
        return family


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
