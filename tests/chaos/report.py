"""The table at the end, and the same as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.chaos.runner import Result

STYLES = {"OK": "green", "CAUGHT": "green", "FAILED": "bold red", "SKIPPED": "yellow"}
FAULTS_SHOWN = 3


def show(results: Sequence[Result], console: Console | None = None) -> None:
    """Prints the table, then what failed and how to see it again."""
    console = console or Console(width=None if sys.stdout.isatty() else 160)
    table = Table(
        "scenario", "faults injected", *_numbers(), "invariants", "verdict", title="Chaos"
    )
    for result in results:
        table.add_row(
            result.scenario,
            _faults(result),
            *_counts(result),
            _invariants(result),
            Text(result.verdict, STYLES[result.verdict]),
        )
    console.print(table)
    for result in results:
        for name, note in result.notes.items():
            console.print(f"{result.scenario}: {name}: {note}", markup=False, highlight=False)
        if result.why:
            console.print(f"{result.scenario}: {result.why}", markup=False, highlight=False)
        if result.kept:
            console.print(f"  logs, history, violations: {result.kept}", markup=False)
            again = f"make chaos SCENARIO={result.scenario} SEED={result.seed}"
            console.print(f"  again: {again}", markup=False, highlight=False)
            check = f"{sys.executable} -m tests.history {result.kept}/history --final {result.kept}/final.json"
            console.print(
                f"  check by hand: {check}", markup=False, highlight=False, soft_wrap=True
            )


def _numbers() -> tuple[str, ...]:
    return ("seed", "jobs", "deliveries", "duplicates refused", "full rate after")


def _faults(result: Result) -> str:
    shown = result.faults[:FAULTS_SHOWN]
    more = len(result.faults) - len(shown)
    return "\n".join([*shown, *([f"and {more} more"] if more else [])])


def _counts(result: Result) -> tuple[str, ...]:
    counts = result.counts
    if not counts:
        return (str(result.seed), "-", "-", "-", "-")
    rate = "-" if result.full_rate_s is None else f"{result.full_rate_s:.1f} s"
    return (
        str(result.seed),
        str(counts["jobs"]),
        str(counts["deliveries"]),
        str(counts["refused"]),
        rate,
    )


def _invariants(result: Result) -> str:
    if not result.counts:
        return "-"
    return "I1-I9 hold" if not result.fallen else f"{', '.join(result.fallen)} fell"


def save(results: Sequence[Result], path: Path) -> None:
    """The same for tools."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([result.to_json() for result in results], indent=2))
