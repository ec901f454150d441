"""The measurements that every contender goes through, all by the same code.

A cycle, on an empty database:  enqueue N jobs ─▶ ANALYZE ─▶ work them ─▶ until the database has
settled. The work phase ends when SQL sees no open job, not when the last handler has run, so a
queue that completes late does not win by it. The database is asked only after the last handler.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.harness.meter import Meter
from benchmarks.harness.postgres import Postgres
from benchmarks.harness.runner import Runner, wait_until
from benchmarks.harness.statistics import percentile
from benchmarks.peers.contender import Contender, Live

Metrics = dict[str, float]
# The share of samples at the start that are thrown away: connections, caches, compilers.
WARM_UP = 0.1
SETTLE_TIMEOUT_S = 120


@dataclass(frozen=True)
class Bench:
    """Measures contenders on a server; logs go into `directory`."""

    postgres: Postgres
    directory: Path

    def throughput(self, contender: Contender, jobs: int) -> dict[str, Metrics]:
        """Bulk enqueue, work phase, and the whole life as the sum of both."""
        jobs = min(jobs, contender.jobs_max or jobs)
        with self._live(contender) as (live, connection):
            enqueue = self._enqueue(contender, live, jobs)
            connection.execute("analyze")
            work = self._work(contender, live, connection, jobs)
        life: Metrics = {
            metric: enqueue[metric] + work[metric]
            for metric in ("wal_bytes_per_job", "write_commits_per_job", "postgres_cpu_us_per_job")
            if metric in enqueue and metric in work
        }
        return {"enqueue": enqueue, "work": work, "life": life}

    def latency(
        self, contender: Contender, rate: float, seconds: float, measurement: str = "latency"
    ) -> dict[str, Metrics]:
        """Enqueue to handler start, at a steady rate from a producer in a process of its own."""
        jobs = max(20, round(rate * seconds))
        with (
            self._live(contender) as (live, _connection),
            self._runner(contender, live, "work", jobs=jobs, latency=True) as worker,
            self._runner(contender, live, "produce", jobs=jobs, rate=rate) as producer,
        ):
            worker.ready()
            producer.ready()
            worker.go()
            # Subscriptions and leadership take their time; a job in that time measures them.
            time.sleep(2.0)
            meter = self._meter(live, worker=worker, producer=producer)
            meter.start()
            producer.go()
            producer.result(timeout_s=60 + 4 * seconds)
            ages = worker.result(timeout_s=60 + 4 * seconds)["latencies_us"]
            metrics = meter.stop(jobs)
            producer.stop()
            worker.stop()
        return {measurement: metrics | percentiles(ages)}

    def _enqueue(self, contender: Contender, live: Live, jobs: int) -> Metrics:
        with self._runner(contender, live, "enqueue", jobs=jobs) as producer:
            producer.ready()
            meter = self._meter(live, producer=producer)
            meter.start()
            producer.go()
            seconds = producer.result()["seconds"]
            metrics = meter.stop(jobs, seconds=seconds)
            producer.stop()
        return metrics

    def _work(
        self, contender: Contender, live: Live, connection: psycopg.Connection, jobs: int
    ) -> Metrics:
        def settled() -> bool:
            row = connection.execute(contender.settled_sql, {"jobs": jobs}).fetchone()
            return row is not None and bool(row[0])

        with self._runner(contender, live, "work", jobs=jobs) as worker:
            worker.ready()
            meter = self._meter(live, worker=worker)
            meter.start()
            worker.go()
            handled = worker.result()
            wait_until(settled, SETTLE_TIMEOUT_S, f"the end of {contender.name}'s last job")
            metrics = meter.stop(jobs)
            worker.stop()
        # How long after its last handler the queue had everything on record.
        return metrics | {"settle_ms": max(0.0, metrics["seconds"] - handled["seconds"]) * 1000}

    @contextmanager
    def _live(self, contender: Contender) -> Iterator[tuple[Live, psycopg.Connection]]:
        log = self.directory / f"{contender.name}.log"
        with (
            self.postgres.database() as url,
            contender.live(url, log) as live,
            psycopg.connect(url, autocommit=True) as connection,
        ):
            yield live, connection

    def _runner(self, contender: Contender, live: Live, action: str, **options: object) -> Runner:
        return Runner(
            [*live.command, *contender.arguments(action, **options)],
            self.directory / f"{contender.name}.log",
            environment=live.environment,
        )

    def _meter(self, live: Live, **runners: Runner) -> Meter:
        return Meter(
            self.postgres, dict(live.processes) | {role: [r.pid] for role, r in runners.items()}
        )


def percentiles(latencies_us: list[float]) -> Metrics:
    """p50, p95, p99 and the largest, in ms, after the warm-up."""
    kept = latencies_us[int(len(latencies_us) * WARM_UP) :]
    points = {f"p{point}_ms": percentile(kept, point) / 1000 for point in (50, 95, 99)}
    return points | {"max_ms": max(kept) / 1000}
