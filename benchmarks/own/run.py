"""`make bench`: every measurement of AtlasQueue alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from benchmarks.harness import machine
from benchmarks.harness.console import say, shown
from benchmarks.harness.document import Run
from benchmarks.harness.interleave import Measure, rounds
from benchmarks.harness.postgres import Postgres, open_postgres
from benchmarks.harness.runner import RunnerError
from benchmarks.own import depth, languages, latency, memory, streams, throughput
from benchmarks.own.context import Context, Sizes
from benchmarks.own.horizon import Horizon
from benchmarks.own.memory import Soak

Measures = Callable[[Context], dict[str, Measure] | AbstractContextManager[dict[str, Measure]]]
STATEMENTS = {
    "shared_preload_libraries": "pg_stat_statements",
    # Each kind of statement is kept: nothing is evicted, so no call is forgotten.
    "pg_stat_statements.max": "10000",
}


@dataclass(frozen=True)
class Measurement:
    """A measurement by name."""

    name: str
    says: str
    measures: Measures
    # Needs pg_stat_statements, which costs a little, so the others run without.
    counts_statements: bool = False
    # Long enough in itself; more rounds would tell no more.
    rounds_max: int = 100


def measurements(horizon: Horizon, soak: Soak) -> list[Measurement]:
    """All, in the order in which they run."""
    return [
        Measurement("enqueue", "bulk enqueue through gRPC, and raw COPY", throughput.enqueue),
        *(
            Measurement(
                f"unary_{calls}",
                f"one job a call, {calls} in flight, and an empty RPC",
                throughput.unary(calls),
            )
            for calls in (1, 16, 64)
        ),
        Measurement("work", "work phase", throughput.work),
        Measurement("lifecycle", "enqueue and work at once", throughput.lifecycle),
        Measurement("latency", "enqueue to handler start, idle", latency.idle),
        Measurement("half_load", "the same at half load", latency.half_load),
        Measurement("slots", "work phase by slots", throughput.slots),
        Measurement("languages", "work phase by the worker's language", languages.work),
        Measurement("backlog", "work rate and claims by waiting jobs", depth.backlog),
        Measurement("horizon", "with xmin pinned, with scanners", horizon.measures),
        Measurement("idle_streams", "streams without jobs", streams.idle_streams, True, 3),
        Measurement("heartbeats", "held leases", streams.heartbeats, True, 3),
        Measurement("soak", "memory under load", soak.measures, rounds_max=1),
        Measurement("churn", "memory, streams that come and go", memory.churn, rounds_max=3),
    ]


@dataclass(frozen=True)
class Options:
    """How a run was asked for."""

    only: frozenset[str]
    pairs: int
    sizes: Sizes
    database_url: str | None = None
    slots: int = 256
    workers: int = 1
    server_arguments: str = ""


def run(options: Options, write: Callable[[Run], None]) -> Run:
    """Measures; `write` is called whenever there is something new to keep.

    Raises ValueError for unknown names in `only`.
    """
    horizon, soak = Horizon(), Soak()
    every = measurements(horizon, soak)
    names = [each.name for each in every]
    if unknown := options.only - set(names):
        raise ValueError(f"--only {', '.join(sorted(unknown))}: there are {', '.join(names)}")
    wanted = [each for each in every if not options.only or each.name in options.only]
    run = Run("own", machine.machine(), machine.versions(), {}, asdict(options))
    run.options |= {"only": sorted(options.only)}
    run.options.pop("database_url")
    for counting in (False, True):
        group = [each for each in wanted if each.counts_statements is counting]
        if group:
            with _context(options, counting) as context:
                run.postgres = run.postgres or context.postgres.settings()
                for each in group:
                    try:
                        _measure(run, each, context, options.pairs, write)
                    except RunnerError as error:
                        # An hour of other figures must not be lost to it.
                        run.skipped[each.name] = str(error).splitlines()[0]
                        say(f"[red]{each.name} failed: {error}")
    run.curves = {"horizon": horizon.series, "soak": soak.series}
    return run


@contextmanager
def _context(options: Options, counting: bool) -> Iterator[Context]:
    settings = STATEMENTS if counting else None
    with (
        open_postgres(options.database_url, settings) as postgres,
        tempfile.TemporaryDirectory(prefix="atlasqueue-bench-logs-") as directory,
    ):
        if counting:
            _count_statements(postgres)
        yield Context(
            postgres,
            Path(directory),
            options.sizes,
            options.slots,
            options.workers,
            options.server_arguments,
        )


def _count_statements(postgres: Postgres) -> None:
    try:
        postgres.connection.execute("create extension if not exists pg_stat_statements")
    except psycopg.Error as error:
        say(f"[yellow]no statements a second: pg_stat_statements is not there ({error})")


def _measure(
    run: Run,
    measurement: Measurement,
    context: Context,
    pairs: int,
    write: Callable[[Run], None],
) -> None:
    say(f"[bold]{measurement.name}[/]: {measurement.says}")
    prepared = measurement.measures(context)
    scope = nullcontext(prepared) if isinstance(prepared, dict) else prepared
    with scope as measures:
        base = next(iter(measures))
        for sample in rounds(measures, min(pairs, measurement.rounds_max)):
            run.bases.setdefault(sample.measurement, base)
            run.samples.append(sample)
            again = " (again)" if sample.again else ""
            figures = ", ".join(f"{k} {shown(v)}" for k, v in sample.metrics.items())
            say(
                f"round {sample.round + 1}  {sample.measurement} {sample.variant}{again}: {figures}"
            )
            write(run)
