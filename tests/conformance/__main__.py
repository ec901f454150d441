"""`python -m tests.conformance`, `make conformance`: plays the cases and prints the table."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from atlasqueue_server.store.migrations import migrate
from tests import golang
from tests.chaos.runner import world
from tests.conformance.cases import Case, read_cases
from tests.conformance.executors.broken import FAULTS
from tests.conformance.stage import Stage
from tests.conformance.suite import Result, Suite, can_be_run, command_of, not_catching

WORDS = {True: "[green]ok[/]", False: "[bold red]FAILED[/]"}


def main(
    executor: Annotated[
        list[str] | None,
        typer.Option(help="python, go or a command; may be given several times; default: python"),
    ] = None,
    case: Annotated[list[str] | None, typer.Option(help="Only this case; may be repeated")] = None,
    broken: Annotated[
        bool, typer.Option("--broken", help="Also check that broken executors fail")
    ] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Only list the cases")] = False,
) -> None:
    """Play the cases of tests/conformance/cases with an SDK's executor, against a real server.

    Exit code 0: every case passed (and every broken executor failed); 1: not so; 2: usage.
    """
    cases = read_cases()
    if unknown := set(case or []) - {one.name for one in cases}:
        typer.echo(f"no case {', '.join(sorted(unknown))}; --list shows them", err=True)
        raise typer.Exit(2)
    chosen = [one for one in cases if not case or one.name in case]
    if list_only:
        for one in chosen:
            typer.echo(f"{one.subject:10} {one.name:26} {one.title}")
        return
    for one in executor or ():
        if not can_be_run(one):
            typer.echo(f"no executor {one!r}: it is python, go or a command that runs", err=True)
            raise typer.Exit(2)
    raise typer.Exit(asyncio.run(_run(executor or ["python"], chosen, cases if broken else ())))


async def _run(executors: Sequence[str], cases: Sequence[Case], catching: Sequence[Case]) -> int:
    console = Console(width=None if sys.stdout.isatty() else 140)
    columns: dict[str, list[Result]] = {}
    missed: dict[str, list[str]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="atlasqueue-conformance-") as directory,
        world(0) as postgres,
    ):
        await migrate(postgres.url)
        async with Stage(postgres.url, Path(directory)) as stage:
            for executor in executors:
                try:
                    command = command_of(executor)
                except golang.Missing as missing:
                    console.print(f"{executor}: skipped: {missing}")
                    continue
                suite = Suite(stage, command, executor, lambda result: _tell(console, result))
                columns[executor] = await suite.play(cases)
            for fault in FAULTS if catching else ():
                missed[fault] = await not_catching(stage, fault, catching)
    _show(console, cases, columns)
    for fault, passed in missed.items():
        word = f"PASSED {', '.join(passed)}" if passed else "fails, as it should"
        console.print(f"broken executor {fault}: {word}", highlight=False)
    failed = [result for column in columns.values() for result in column if not result.passed]
    return 1 if failed or any(missed.values()) else 0


def _tell(console: Console, result: Result) -> None:
    if not result.passed:
        console.print(f"{result.case.name}: {result.why}", markup=False, highlight=False)


def _show(console: Console, cases: Sequence[Case], columns: dict[str, list[Result]]) -> None:
    table = Table("subject", "case", "promise", *columns, title="Conformance")
    for number, case in enumerate(cases):
        words = [WORDS[results[number].passed] for results in columns.values()]
        table.add_row(case.subject, case.name, case.title, *words)
    console.print(table)
    for executor, results in columns.items():
        failed = [result for result in results if not result.passed]
        slowest = max(results, key=lambda result: result.seconds)
        console.print(
            f"{executor}: {len(results) - len(failed)} of {len(results)} cases passed"
            f" (the slowest was {slowest.case.name}, {slowest.seconds:.1f} s)",
            highlight=False,
        )
        for result in results:
            if result.passed and result.first:
                console.print(
                    f"  {result.case.name} passed when played again: {result.first}", markup=False
                )
        for result in failed:
            console.print(f"  {result.case.name}: {result.why}", markup=False, highlight=False)


if __name__ == "__main__":
    typer.run(main)
