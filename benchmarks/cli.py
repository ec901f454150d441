"""The commands: `own`, `peers`, `report`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlasqueue_server.embedded import EmbeddedPostgresError

if TYPE_CHECKING:
    from benchmarks.harness.document import Run

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    # Its tracebacks print local variables, and those hold the database's password.
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Benchmarks of AtlasQueue, alone (`own`) and beside its peers (`peers`). Each run prints a "
    "table and writes a JSON document, from which `report` renders markdown.",
)
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

Only = Annotated[
    str, typer.Option(help="Names of what to measure, with commas [default: everything]")
]
Pairs = Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians are taken over them")]
Quick = Annotated[
    bool, typer.Option("--quick", help="Small sizes: shows that everything runs, not how fast")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="ATLASQUEUE_BENCH_DATABASE_URL",
        help="PostgreSQL to use, by a role that may make databases [default: an embedded one]",
    ),
]
Output = Annotated[
    Path | None, typer.Option(help="The JSON document [default: benchmarks/results/KIND-TIME.json]")
]
ServerArguments = Annotated[
    str, typer.Option(help="More arguments for `atlasqueue-server serve`, as in '--processes 2'")
]


@app.callback()
def _root() -> None:
    """Keeps each command a word of its own."""


def _names(only: str) -> frozenset[str]:
    return frozenset(name for name in only.replace(" ", "").split(",") if name)


def _output(kind: str, given: Path | None) -> Path:
    return given or RESULTS / f"{kind}-{datetime.now():%Y%m%d-%H%M%S}.json"


def _measure(run: Callable[[Callable[[Run], None]], Run], path: Path) -> Run:
    """Measures; the document is written whenever there is something new, and shown at the end."""
    from benchmarks.harness.console import say, show

    try:
        done = run(lambda so_far: so_far.write(path))
    except (ValueError, EmbeddedPostgresError) as error:
        raise typer.BadParameter(str(error)) from None
    done.write(path)
    show(done.document())
    say(f"wrote {path}")
    return done


@app.command()
def peers(
    only: Only = "",
    pairs: Pairs = 5,
    quick: Quick = False,
    jobs: Annotated[
        int | None, typer.Option(min=100, help="Jobs of a throughput run [default: 100 000]")
    ] = None,
    slots: Annotated[int, typer.Option(min=1, help="Slots of an AtlasQueue worker")] = 4096,
    workers: Annotated[int, typer.Option(min=1, help="AtlasQueue worker processes")] = 1,
    server_arguments: ServerArguments = "",
    database_url: DatabaseUrl = None,
    output: Output = None,
) -> None:
    """Measure AtlasQueue and its peers in one run on one PostgreSQL, interleaved.

    --only takes names of peers and of phases (enqueue, work, life, latency, half_load):
    `--only river,work` compares the work phase with River's.
    """
    from benchmarks.peers.run import Options, run

    options = Options(
        _names(only),
        pairs,
        jobs or (2_000 if quick else 100_000),
        3.0 if quick else 15.0,
        database_url,
        slots,
        workers,
        server_arguments,
    )
    _measure(partial(run, options), _output("peers", output))


@app.command()
def own(
    only: Only = "",
    pairs: Pairs = 5,
    quick: Quick = False,
    long: Annotated[
        bool,
        typer.Option(
            "--long",
            envvar="LONG",
            help="Ten minutes a soak, ten million jobs waiting, 20 000 streams",
        ),
    ] = False,
    slots: Annotated[int, typer.Option(min=1, help="Slots of a worker")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes")] = 1,
    server_arguments: ServerArguments = "",
    database_url: DatabaseUrl = None,
    output: Output = None,
) -> None:
    """Measure AtlasQueue alone: throughput, latency, depth, held-back vacuum, idle cost, memory.

    --only takes names of measurements: enqueue, unary_1, unary_16, unary_64, work, lifecycle, latency,
    half_load, slots, languages, backlog, horizon, idle_streams, heartbeats, soak, churn.
    """
    from benchmarks.own.context import LONG, QUICK, Sizes
    from benchmarks.own.run import Options, run

    sizes = QUICK if quick else LONG if long else Sizes()
    options = Options(_names(only), pairs, sizes, database_url, slots, workers, server_arguments)
    path = _output("own", output)
    done = _measure(partial(run, options), path)
    _plot(path)
    raise typer.Exit(1 if done.skipped else 0)


def _plot(document: Path) -> None:
    """Draws with the matplotlib of `make bench-plots`, which is no dependency of the project."""
    from benchmarks.harness.console import say

    python = ROOT / ".tools" / "bench" / "bin" / "python"
    if not python.exists():
        say("no plots: `make bench-plots` installs what draws them")
        return
    command = [str(python), "-m", "benchmarks.harness.plots", str(document)]
    subprocess.run(command, cwd=ROOT, check=False)


@app.command()
def report(
    documents: Annotated[list[Path], typer.Argument(help="JSON documents of runs")],
    into: Annotated[
        Path | None,
        typer.Option(
            help="A markdown file: what stands between its marks is replaced [default: print]"
        ),
    ] = None,
) -> None:
    """Render documents as markdown, so that no figure is ever typed by hand."""
    from benchmarks import report as rendering

    try:
        text = rendering.render(documents)
        if into is None:
            print(text)
        else:
            rendering.replace(into, text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
