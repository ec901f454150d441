"""What a person sees: progress while it runs, tables at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

# Which metrics a table shows, in this order; the document has all.
COLUMNS = {
    "jobs_per_s": "jobs/s",
    "calls_per_s": "calls/s",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "max_ms": "max ms",
    "settle_ms": "settles ms",
    "wal_bytes_per_job": "WAL B/job",
    "write_commits_per_job": "commits/job",
    "postgres_cpu_us_per_job": "Postgres µs/job",
    "server_cpu_us_per_job": "server µs/job",
    "worker_cpu_us_per_job": "worker µs/job",
    "producer_cpu_us_per_job": "producer µs/job",
    "server_cpu_share": "server cores",
    "postgres_cpu_share": "Postgres cores",
    "statements_per_s": "statements/s",
    "write_commits_per_s": "write commits/s",
    "rate_first_per_s": "first tenth/s",
    "rate_last_per_s": "last tenth/s",
    "rss_mib": "RSS MiB",
    "growth_mib": "growth MiB",
    "growth_mib_per_min": "growth MiB/min",
}
# More is better for these; of all others, less.
RATES = ("jobs_per_s", "calls_per_s")
# By which metrics the variants of a measurement are compared, where it is not its rate.
COMPARED = {
    "latency": ("p50_ms", "p99_ms"),
    "half_load": ("p50_ms", "p99_ms"),
    "life": ("wal_bytes_per_job", "postgres_cpu_us_per_job"),
    "backlog_claim": ("p99_ms",),
    "horizon": ("jobs_per_s", "rate_last_per_s"),
    "idle_streams": ("statements_per_s", "server_cpu_share"),
    "heartbeats": ("statements_per_s",),
    "soak_server": (),
    "soak_worker": (),
    "churn": (),
}

# Tables are wide, and a pipe has no width.
_WIDTH = None if sys.stdout.isatty() else 160
console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)
_began = time.monotonic()


def say(line: str) -> None:
    """A line of progress with the time since the start."""
    console.print(f"[dim]{time.monotonic() - _began:7.1f} s[/]  {line}", highlight=False)


def shown(value: float) -> str:
    """A figure with as many digits as it deserves."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.3g}"


def columns(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The metrics that any variant of a measurement has, in the order of COLUMNS."""
    present = {metric for metrics in summary.values() for metric in metrics}
    return [metric for metric in COLUMNS if metric in present]


def compared(measurement: str, present: Iterable[str]) -> list[str]:
    """The metrics by which the variants of a measurement are compared."""
    there = set(present)
    if measurement in COMPARED:
        return [metric for metric in COMPARED[measurement] if metric in there]
    rates = [metric for metric in RATES if metric in there][:1]
    return rates or [metric for metric in COLUMNS if metric in there][:1]


def ratio_text(ratio: Mapping[str, Any] | None) -> str:
    """A ratio as median (low–high)."""
    if not ratio:
        return ""
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"


def tables(document: Mapping[str, Any]) -> Iterable[Table]:
    """A table for each measurement."""
    for measurement, variants in document["summary"].items():
        metrics = columns(variants)
        by = compared(measurement, metrics)
        noise = document["noise"].get(measurement, {})
        title = measurement.replace("_", " ")
        spreads = [f"{COLUMNS[m]} {noise[m]:.1%}" for m in by if m in noise]
        if spreads:
            title += f"  (A/A: {', '.join(spreads)})"
        table = Table(title=title, title_justify="left")
        table.add_column("variant")
        for metric in metrics:
            table.add_column(COLUMNS[metric], justify="right")
        for metric in by:
            table.add_column(f"base / this: {COLUMNS[metric]}", justify="right")
        for variant, values in variants.items():
            cells = [shown(values[m]["median"]) if m in values else "" for m in metrics]
            ratios = document["ratios"].get(measurement, {}).get(variant, {})
            table.add_row(variant, *cells, *(ratio_text(ratios.get(m)) for m in by))
        yield table


def show(document: Mapping[str, Any]) -> None:
    """Prints the tables, and what was skipped."""
    out = Console(width=_WIDTH)
    for table in tables(document):
        out.print(table)
    for name, reason in document["skipped"].items():
        out.print(f"[yellow]skipped {name}: {reason}")
