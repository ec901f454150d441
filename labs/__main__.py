"""`python -m labs`, `make lab`: lists the labs, or runs one."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from atlasqueue_server.embedded import EmbeddedPostgresError
from labs import labs
from labs.lab import Lab, Verdict
from labs.runner import run
from labs.voice import Voice
from tests.chaos.progress import Stuck


class Which(StrEnum):
    """The runs of a lab."""

    BOTH = "both"
    NAIVE = "naive"
    REAL = "real"


def main(
    name: Annotated[str, typer.Argument(help="A lab; without it they are listed")] = "",
    only: Annotated[
        Which, typer.Option(help="naive: without the guard; real: as AtlasQueue is")
    ] = Which.BOTH,
    auto: Annotated[bool, typer.Option("--auto", help="Press every key yourself")] = False,
    short: Annotated[bool, typer.Option("--short", help="Fewer jobs: for tests")] = False,
) -> None:
    """Break a small real system, see what happens, and let a checker judge.

    Exit code 0: the naive run was caught and the real one was not; 1: something else happened; 2: usage.
    """
    known = labs()
    voice = Voice(auto=auto)
    if not name:
        _list(voice, known)
        return
    if name not in known:
        typer.echo(f"no lab {name}: there are {', '.join(known)}", err=True)
        raise typer.Exit(2)
    try:
        with voice.listening():
            as_wanted = asyncio.run(_run(known[name], voice, only, short))
    except KeyboardInterrupt:
        voice.say("\nEnded; everything that was started is stopped.")
        raise typer.Exit(130) from None
    except (Stuck, TimeoutError, EmbeddedPostgresError) as error:
        voice.say(f"\nThe lab did not get there: {error or 'it took too long'}", "bold red")
        raise typer.Exit(1) from None
    raise typer.Exit(0 if as_wanted else 1)


def _list(voice: Voice, known: dict[str, Lab]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("chapter", "lab", "what breaks", "the naive run lacks"):
        table.add_column(title, no_wrap=title == "lab")
    for one in known.values():
        table.add_row(one.chapter[0], one.name, one.title, one.missing)
    voice.console.print(table)
    voice.say("\nmake lab NAME=two_workers         break it: without the guard, then with it")
    voice.say("make lab NAME=two_workers AUTO=1  only watch")


async def _run(lab: Lab, voice: Voice, only: Which, short: bool) -> bool:
    voice.heading(lab.title)
    voice.say(lab.question)
    await voice.key("start")
    found: dict[str, Verdict] = {}
    for which, what in (
        (Which.NAIVE, f"without {lab.missing}"),
        (Which.REAL, f"with {lab.missing}"),
    ):
        if only in (Which.BOTH, which):
            voice.heading(f"{which}: {what}")
            verdict = await run(lab, voice, naive=which is Which.NAIVE, short=short)
            found[which] = verdict
            _show(voice, verdict)
            if which is Which.NAIVE and only is Which.BOTH:
                await voice.key(f"the same again {Which.REAL}: with {lab.missing}")
    voice.heading("what to keep")
    voice.say(f"docs/learn/{lab.chapter} explains what you have seen.")
    return all(verdict.caught is (which is Which.NAIVE) for which, verdict in found.items())


def _show(voice: Voice, verdict: Verdict) -> None:
    style = "bold red" if verdict.caught else "bold green"
    voice.console.print(
        f"\n[{style}]{'CAUGHT' if verdict.caught else 'CLEAN'}[/] {escape(verdict.says)}"
    )
    for line in verdict.evidence:
        voice.console.print(f"   {escape(line)}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
