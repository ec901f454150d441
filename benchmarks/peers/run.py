"""`make bench-peers`: all contenders in one run, interleaved."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.harness.console import say, shown
from benchmarks.harness.document import Run, Sample
from benchmarks.harness.interleave import Measure, rounds
from benchmarks.harness.postgres import open_postgres
from benchmarks.harness.runner import RunnerError
from benchmarks.peers.atlasqueue import AtlasQueue
from benchmarks.peers.awa import Awa
from benchmarks.peers.contender import Contender, NotInstallable
from benchmarks.peers.graphile_worker import GraphileWorker
from benchmarks.peers.measure import Bench
from benchmarks.peers.python_peer import OBAN, PGQUEUER, PROCRASTINATE
from benchmarks.peers.river import River

PHASES = ("enqueue", "work", "life", "latency", "half_load")
IDLE_RATE = 20.0


@dataclass(frozen=True)
class Options:
    """How a run was asked for."""

    only: frozenset[str]
    pairs: int
    jobs: int
    latency_s: float
    database_url: str | None = None
    slots: int = 1024
    workers: int = 1
    server_arguments: str = ""


def contenders(options: Options) -> list[Contender]:
    """All that there are, AtlasQueue first."""
    base = AtlasQueue(
        slots=options.slots,
        workers=options.workers,
        server_arguments=options.server_arguments,
    )
    return [base, River(), GraphileWorker(), PGQUEUER, PROCRASTINATE, OBAN, Awa()]


def chosen(only: Collection[str], names: Sequence[str]) -> list[str]:
    """Those of `names` that were asked for; all when none of them was."""
    return [name for name in names if name in only] or list(names)


def run(options: Options, write: Callable[[Run], None]) -> Run:
    """Measures everybody; `write` is called whenever there is something new to keep.

    Raises ValueError for names in `only` that nobody has.
    """
    everyone = contenders(options)
    names = [contender.name for contender in everyone]
    if unknown := options.only - {*names, *PHASES}:
        raise ValueError(
            f"--only {', '.join(sorted(unknown))}: there are {', '.join([*names[1:], *PHASES])}"
        )
    phases = chosen(options.only, PHASES)
    wanted = {"atlasqueue", *chosen(options.only, names)}
    with open_postgres(options.database_url) as postgres, _logs() as logs:
        run = Run("peers", machine.machine(), machine.versions(), postgres.settings(), {})
        run.options = json.loads(json.dumps(options.__dict__, default=sorted))
        run.options.pop("database_url")
        taking_part = _install([each for each in everyone if each.name in wanted], run)
        bench = Bench(postgres, Path(logs))
        if {"enqueue", "work", "life"} & set(phases):
            measures = {c.name: partial(bench.throughput, c, options.jobs) for c in taking_part}
            _measure(run, measures, options.pairs, phases, write)
        if "latency" in phases:
            idle = {
                c.name: partial(bench.latency, c, IDLE_RATE, options.latency_s) for c in taking_part
            }
            _measure(run, idle, options.pairs, phases, write)
        if "half_load" in phases:
            _measure(
                run, _half_loads(run, bench, taking_part, options), options.pairs, phases, write
            )
    return run


def _logs() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="atlasqueue-bench-logs-")


def _install(everyone: Sequence[Contender], run: Run) -> list[Contender]:
    able: list[Contender] = []
    for contender in everyone:
        say(f"installing {contender.name}")
        try:
            contender.install()
        except NotInstallable as reason:
            run.skipped[contender.name] = str(reason)
            say(f"[yellow]skipping {contender.name}: {reason}")
            continue
        run.variants[contender.name] = contender.facts() | {"jobs_max": contender.jobs_max}
        able.append(contender)
    return able


def _measure(
    run: Run,
    measures: Mapping[str, Measure],
    pairs: int,
    phases: Sequence[str],
    write: Callable[[Run], None],
) -> None:
    broken: set[str] = set()

    def guarded(name: str, measure: Measure) -> Measure:
        def attempt() -> dict[str, dict[str, float]]:
            if name in broken:
                return {}
            try:
                return measure()
            except RunnerError as error:
                if name == "atlasqueue":
                    raise
                # One peer's trouble must not cost the others their run.
                broken.add(name)
                run.skipped[name] = str(error).splitlines()[0]
                say(f"[red]{name} failed: {error}")
                return {}

        return attempt

    guards = {name: guarded(name, measure) for name, measure in measures.items()}
    for sample in rounds(guards, pairs):
        if sample.measurement not in phases:
            continue
        run.samples.append(sample)
        say(_line(sample))
        write(run)


def _line(sample: Sample) -> str:
    metrics = sample.metrics
    figures = [
        f"{shown(metrics[name])} {unit}"
        for name, unit in (
            ("jobs_per_s", "jobs/s"),
            ("p50_ms", "ms p50"),
            ("p99_ms", "ms p99"),
            ("wal_bytes_per_job", "B WAL/job"),
            ("postgres_cpu_us_per_job", "µs Postgres"),
        )
        if name in metrics
    ]
    again = " (again)" if sample.again else ""
    return f"round {sample.round + 1}  {sample.measurement:10} {sample.variant + again:20} {', '.join(figures)}"


def _half_loads(
    run: Run, bench: Bench, taking_part: Sequence[Contender], options: Options
) -> dict[str, Measure]:
    """Each at half of what it can do: a job is enqueued and worked on the same cores."""
    summary = run.document()["summary"]
    measures: dict[str, Measure] = {}
    for contender in taking_part:
        try:
            enqueue = summary["enqueue"][contender.name]["jobs_per_s"]["median"]
            work = summary["work"][contender.name]["jobs_per_s"]["median"]
        except KeyError:
            say(f"[yellow]no half load for {contender.name}: it needs enqueue and work in this run")
            continue
        rate = 0.5 / (1 / enqueue + 1 / work)
        measures[contender.name] = partial(
            bench.latency, contender, rate, options.latency_s, "half_load"
        )
    return measures
