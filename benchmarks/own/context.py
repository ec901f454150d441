"""A server on a fresh database with load processes around it: what every measurement here is made of."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.meter import Meter
from benchmarks.harness.postgres import Postgres
from benchmarks.harness.runner import Runner
from benchmarks.harness.server import Server, migrate, serving
from benchmarks.peers.contender import flags
from benchmarks.peers.measure import percentiles

Metrics = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much of everything; quick, default and long differ in nothing else."""

    jobs: int = 100_000
    unary_jobs: int = 10_000
    seconds: float = 10.0
    latency_s: float = 15.0
    horizon_s: float = 30.0
    idle_s: float = 30.0
    soak_s: float = 60.0
    streams: int = 1000
    held: int = 10_000
    churn: int = 5_000
    claims: int = 300
    backlogs: tuple[int, ...] = (10_000, 1_000_000)


QUICK = Sizes(
    jobs=1_000,
    unary_jobs=200,
    seconds=2.0,
    latency_s=3.0,
    horizon_s=2.0,
    idle_s=3.0,
    soak_s=3.0,
    streams=20,
    held=200,
    churn=100,
    claims=5,
    backlogs=(1_000, 5_000),
)
LONG = Sizes(
    jobs=500_000,
    horizon_s=600.0,
    soak_s=600.0,
    idle_s=60.0,
    churn=20_000,
    backlogs=(10_000, 1_000_000, 10_000_000),
)


@dataclass
class Context:
    """What a measurement works with."""

    postgres: Postgres
    directory: Path
    sizes: Sizes
    slots: int = 256
    workers: int = 1
    server_arguments: str = ""
    # Rates that one measurement finds and a later one needs.
    found: dict[str, float] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where all processes write."""
        return self.directory / "log"

    @contextmanager
    def server(self, template: str | None = None) -> Iterator[Live]:
        """A server on a fresh database, or on a copy of one that a measurement has prepared."""
        with self.postgres.database(template) as url:
            if template is None:
                migrate(url)
            with serving(url, self.log, self.server_arguments) as server:
                yield Live(self, url, server)

    def runner(self, module: str, address: str = "", **options: object) -> Runner:
        """A program of benchmarks/load."""
        command = [sys.executable, "-m", f"benchmarks.load.{module}", *flags(options)]
        return Runner(command, self.log, environment={"ATLASQUEUE_ADDRESS": address})


@dataclass
class Live:
    """A running server."""

    context: Context
    url: str
    server: Server

    def runner(self, module: str, **options: object) -> Runner:
        """A program of benchmarks/load that talks to this server."""
        return self.context.runner(module, self.server.address, **options)

    def worker(self, **options: object) -> Runner:
        """load/work.py with the run's slots and workers."""
        defaults = {"slots": self.context.slots, "workers": self.context.workers}
        return self.runner("work", **(defaults | options))

    def producer(self, way: str, **options: object) -> Runner:
        """load/produce.py."""
        return self.runner("produce", way=way, **options)

    def meter(self, **runners: Runner) -> Meter:
        """Reads the server's cost and that of runners by role."""
        roles = {role: [runner.pid] for role, runner in runners.items()}
        return Meter(self.context.postgres, {"server": [self.server.pid]} | roles)

    def measure(self, role: str, runner: Runner, jobs: int | None = None) -> Metrics:
        """Lets one runner work; per job of `jobs`, else of what it has handled."""
        with runner:
            runner.ready()
            meter = self.meter(**{role: runner})
            meter.start()
            runner.go()
            result = runner.result()
            metrics = meter.stop(jobs or result["handled"], seconds=result["seconds"])
            runner.stop()
        return metrics | latencies(result)

    def count_file(self) -> Path:
        """A file for load/shared_count.py."""
        return self.context.directory / f"count-{uuid.uuid4().hex}"


def latencies(result: Mapping[str, Any]) -> Metrics:
    """Percentiles of a result that has latencies."""
    found = result.get("latencies_us")
    return percentiles(found) if found else {}
