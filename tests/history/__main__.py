"""`python -m tests.history HISTORY... --database-url URL`: checks a history by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from tests.history.check import check
from tests.history.final import read_final
from tests.history.history import read_history
from tests.history.saved import load_final
from tests.history.verdict import PROMISE, Bounds, Verdict

SHOWN_MAX = 20


def main(
    history: Annotated[
        list[Path],
        typer.Argument(help="Files of JSON lines, or directories of *.jsonl", exists=True),
    ],
    database_url: Annotated[
        str | None,
        typer.Option(envvar="ATLASQUEUE_DATABASE_URL", help="The database that the run has left"),
    ] = None,
    final: Annotated[
        Path | None,
        typer.Option(help="The same as a file: final.json of a failed chaos run", exists=True),
    ] = None,
    expiry_slack: Annotated[
        float, typer.Option(help="How long a lease may outlive its worker beyond its timeout (I6)")
    ] = 2.0,
) -> None:
    """Check a history against the invariants I1 to I9.

    Exit code 0: all hold; 1: one fell; 2: the history or the database cannot be read; 3: nothing fell, but
    some could not be judged.

    Example: python -m tests.history build/chaos/kill_worker-1/history --final build/chaos/kill_worker-1/final.json
    """
    if (database_url is None) == (final is None):
        typer.echo("error: give either --database-url or --final", err=True)
        raise typer.Exit(2)
    try:
        verdict = check(
            read_history(history),
            load_final(final) if final else read_final(database_url or ""),
            Bounds(expiry_slack_s=expiry_slack),
        )
    except (ValueError, psycopg.Error) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    show(verdict)
    raise typer.Exit(1 if not verdict.ok else 3 if verdict.unjudged else 0)


def show(verdict: Verdict) -> None:
    """Prints the verdict as a table, and what shows it."""
    table = Table("invariant", "promise", "verdict")
    for name, promise in PROMISE.items():
        fallen = sum(v.invariant == name for v in verdict.violations)
        word = (
            f"FELL ({fallen})" if fallen else "not judged" if name in verdict.unjudged else "holds"
        )
        table.add_row(name, promise, word)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    console.print(", ".join(f"{n} {what}" for what, n in verdict.counts.items()))
    for violation in verdict.violations[:SHOWN_MAX]:
        console.print(str(violation), markup=False)
    if len(verdict.violations) > SHOWN_MAX:
        console.print(f"... and {len(verdict.violations) - SHOWN_MAX} more")
    for name, why in verdict.unjudged.items():
        console.print(f"{name} not judged: {why}")


if __name__ == "__main__":
    typer.run(main)
