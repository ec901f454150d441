"""Memory over time, under load and under streams that come and go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.harness import procfs
from benchmarks.harness.interleave import Measure
from benchmarks.harness.statistics import slope_per_minute
from benchmarks.own.context import Context, Metrics
from benchmarks.own.throughput import _pair

MIB = 2**20
WARM_UP = 0.2
# A garbage collection and an allocator's trim may come late.
REST_S = 1.0


@dataclass
class MemoryLog:
    """RSS of processes each half second."""

    pids: dict[str, int]
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @contextmanager
    def running(self, every_s: float = 0.5) -> Iterator[None]:
        """Logs until the block ends."""
        stop = threading.Event()

        def log() -> None:
            at = 0.0
            while not stop.wait(every_s):
                at += every_s
                for role, pid in self.pids.items():
                    if rss := procfs.rss_bytes(pid):
                        self.points.setdefault(role, []).append((at, rss / MIB))

        thread = threading.Thread(target=log, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class Soak:
    """Full load for a time; the curves of the last round are kept for the plot."""

    def __init__(self) -> None:
        self.series: dict[str, list[tuple[float, float]]] = {}

    def measures(self, context: Context) -> dict[str, Measure]:
        """Server and worker are told apart as measurements."""
        seconds = context.sizes.soak_s

        def once() -> dict[str, dict[str, float]]:
            with context.server() as live, _pair(live, seconds) as (worker, producer):
                log = MemoryLog({"server": live.server.pid, "worker": worker.pid})
                with log.running():
                    worker.go()
                    producer.go()
                    worker.result(timeout_s=seconds + 120)
            self.series = log.points
            return {f"soak_{role}": _growth(points) for role, points in log.points.items()}

        return {"full load": once}


def _growth(points: list[tuple[float, float]]) -> Metrics:
    steady = points[int(len(points) * WARM_UP) :]
    return {
        "rss_mib": steady[-1][1],
        "growth_mib": steady[-1][1] - steady[0][1],
        "growth_mib_per_min": slope_per_minute(steady) if len(steady) > 1 else 0.0,
    }


def churn(context: Context) -> dict[str, Measure]:
    """Streams opened and cancelled: AtlasQueue's, and a bare one of grpc.aio's."""
    sizes = {"count": context.sizes.churn, "warm_up": max(50, context.sizes.churn // 10)}

    def lease() -> dict[str, Metrics]:
        with context.server() as live:
            return {"churn": _churned(context, live.server.address, live.server.pid, sizes)}

    def bare() -> dict[str, Metrics]:
        with context.runner("bare_server") as server:
            server.ready()
            server.go()
            address = server.result()["address"]
            return {"churn": _churned(context, address, server.pid, sizes | {"bare": True})}

    return {"Lease": lease, "bare stream": bare}


def _churned(context: Context, address: str, pid: int, options: dict[str, int]) -> Metrics:
    with context.runner("churn", address, **options) as runner:
        runner.ready(timeout_s=600)
        threading.Event().wait(REST_S)
        before = procfs.rss_bytes(pid)
        runner.go()
        seconds = runner.result()["seconds"]
        threading.Event().wait(REST_S)
        after = procfs.rss_bytes(pid)
    return {
        "calls_per_s": options["count"] / seconds,
        "rss_mib": after / MIB,
        "growth_mib": (after - before) / MIB,
    }
