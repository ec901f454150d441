"""`python -m tests.chaos`, `make chaos`: runs the scenarios and prints the table."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.broken.overlay import variants
from tests.chaos.report import save, show
from tests.chaos.runner import Result, run
from tests.chaos.scenarios import Scenario, scenarios

DEFAULT_SEED = 1


def main(
    scenario: Annotated[
        list[str] | None, typer.Option(help="Only this one; may be given several times")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the first round; each round adds one")
    ] = DEFAULT_SEED,
    minutes: Annotated[
        float, typer.Option(help="Go on with new seeds for so long; 0: one round")
    ] = 0.0,
    broken: Annotated[
        str, typer.Option(help="Run on a broken variant of the SQL: being caught is what is wanted")
    ] = "",
    short: Annotated[bool, typer.Option("--short", help="Fewer jobs and faults")] = False,
    directory: Annotated[
        Path, typer.Option(help="Where logs and histories of failed runs are kept")
    ] = Path("build/chaos"),
    json_file: Annotated[Path, typer.Option("--json", help="The table for tools")] = Path(
        "build/chaos/results.json"
    ),
    list_only: Annotated[bool, typer.Option("--list", help="Only list the scenarios")] = False,
) -> None:
    """Inject faults into real processes and check the promise I1 to I9.

    Exit code 0: every invariant held (or, with --broken, the fault was caught); 1: something failed; 2: usage.
    """
    chosen = _choose(scenario or [], broken)
    if list_only:
        for one in chosen:
            typer.echo(f"{one.name:24} {one.title}")
        return
    results = asyncio.run(_run_all(chosen, seed, minutes, broken, short, directory))
    show(results)
    save(results, json_file)
    raise typer.Exit(1 if any(r.verdict == "FAILED" for r in results) else 0)


def _choose(names: list[str], broken: str) -> list[Scenario]:
    known = scenarios()
    if unknown := set(names) - set(known):
        typer.echo(
            f"no scenario {', '.join(sorted(unknown))}: there are {', '.join(known)}", err=True
        )
        raise typer.Exit(2)
    if broken and broken not in variants():
        typer.echo(f"no broken variant {broken}: there are {', '.join(variants())}", err=True)
        raise typer.Exit(2)
    if names:
        return [known[name] for name in names]
    if broken and not any(broken in one.catches for one in known.values()):
        typer.echo(f"no scenario shows up {broken}: `make lab` lists the labs that do", err=True)
        raise typer.Exit(2)
    if broken:
        return [one for one in known.values() if broken in one.catches]
    return list(known.values())


def _rounds(chosen: list[Scenario], seed: int, minutes: float) -> Iterator[tuple[Scenario, int]]:
    end = time.monotonic() + minutes * 60
    order = list(chosen)
    while True:
        for one in order:
            yield one, seed
            if minutes and time.monotonic() >= end:
                return
        if not minutes:
            return
        seed += 1
        random.Random(seed).shuffle(order)


async def _run_all(
    chosen: list[Scenario], seed: int, minutes: float, broken: str, short: bool, directory: Path
) -> list[Result]:
    console = Console(stderr=True)
    results = []
    for one, number in _rounds(chosen, seed, minutes):
        console.print(f"{one.name} (seed {number}): {one.title} ...", highlight=False)
        place = (directory / f"{one.name}-{number}").resolve()
        result = await run(one, number, place, short=short, broken=broken or None)
        if broken and result.verdict != "SKIPPED":
            result = _caught(result, broken)
        console.print(f"  {result.verdict} after {result.seconds:.0f} s", highlight=False)
        results.append(result)
    return results


def _caught(result: Result, broken: str) -> Result:
    if result.fallen:
        return replace(result, verdict="CAUGHT", why=f"SQL without {broken}: {result.why}", kept="")
    return replace(result, verdict="FAILED", why=f"{broken} was left out, and nothing fell")


if __name__ == "__main__":
    typer.run(main)
