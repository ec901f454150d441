"""Does it matter what holds back vacuum? A pinned xmin, and readers with old snapshots."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.harness.interleave import Measure
from benchmarks.own.context import Context, Metrics
from benchmarks.own.throughput import Disturbance, steady

SCANNERS = 4
# What a report or a dashboard would read, in an old snapshot.
SCANS = (
    "select count(*) from atlasqueue.jobs",
    "select count(*) from atlasqueue.ready",
    "select count(*) from atlasqueue.leased",
    "select count(*) from atlasqueue.finished",
)


@contextmanager
def pinned(url: str) -> Iterator[None]:
    """An open transaction that has an id: no dead row of this time can be removed."""
    with psycopg.connect(url) as connection:
        connection.execute("select pg_current_xact_id()")
        yield
        connection.rollback()


@contextmanager
def scanned(url: str) -> Iterator[None]:
    """Readers at repeatable read, a snapshot of two seconds each, over and over."""
    stop = threading.Event()

    def scan() -> None:
        try:
            with psycopg.connect(url) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                while not stop.is_set():
                    for statement in SCANS:
                        connection.execute(statement)
                    stop.wait(2.0)
                    connection.rollback()
        except psycopg.Error:
            # The database is dropped under it at the end.
            return

    threads = [threading.Thread(target=scan, daemon=True) for _ in range(SCANNERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


class Horizon:
    """The variants, and the rate over time of each one's last round, for the plot."""

    def __init__(self) -> None:
        self.series: dict[str, list[tuple[float, float]]] = {}

    def measures(self, context: Context) -> dict[str, Measure]:
        """Enqueue and work at once, free and disturbed."""

        def measure(name: str, disturbance: Disturbance | None) -> Measure:
            def once() -> dict[str, Metrics]:
                seconds = context.sizes.horizon_s
                metrics, rates = (
                    steady(context, seconds, disturbance)
                    if disturbance
                    else steady(context, seconds)
                )
                self.series[name] = rates
                return {"horizon": metrics}

            return once

        variants: dict[str, Disturbance | None] = {
            "free": None,
            "xmin pinned": pinned,
            f"{SCANNERS} scanners": scanned,
        }
        return {name: measure(name, disturbance) for name, disturbance in variants.items()}
