"""One run of a lab, without the guard or with it: its world, its play, its verdict."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path

from labs.board import Board
from labs.lab import Lab, Verdict
from labs.stage import Stage
from labs.voice import Voice
from tests.broken.overlay import broken
from tests.chaos.arena import Arena
from tests.chaos.runner import world
from tests.history.check import check
from tests.history.final import read_final
from tests.history.history import read_history
from tests.history.verdict import PROMISE, Bounds

SHOWN_MAX = 4
# A lab is no measurement of I6: other work on the machine may make expiry late.
BOUNDS = Bounds(expiry_slack_s=30.0, tick_gap_s=1.0)


async def run(lab: Lab, voice: Voice, *, naive: bool, short: bool) -> Verdict:
    """One run in a fresh world, with its verdict. Raises Stuck or TimeoutError when it did not get there."""
    directory = Path(tempfile.mkdtemp(prefix="atlasqueue-lab-"))
    variant = lab.variant if naive else None
    try:
        overlay = broken(variant, directory / "sql") if variant else nullcontext()
        voice.say("Starting PostgreSQL, servers and workers ...", "dim")
        with world(0) as postgres, overlay:
            arena = Arena(directory, postgres, lab.settings, seed=1, short=short, broken=variant)
            return await _play(lab, arena, voice, naive=naive, short=short)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _play(lab: Lab, arena: Arena, voice: Voice, *, naive: bool, short: bool) -> Verdict:
    watching: asyncio.Task[None] | None = None
    try:
        await arena.open()
        voice.begin()
        board = Board(arena.url, voice, quiet=lab.many_jobs)
        watching = asyncio.create_task(board.run())
        with voice.showing():
            verdict = await lab.play(Stage(arena, voice, board, naive=naive, short=short))
            await board.catch_up()
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await arena.close()
    return verdict or await asyncio.to_thread(judge, arena)


def judge(arena: Arena) -> Verdict:
    """The history checker's verdict."""
    verdict = check(read_history([arena.history]), read_final(arena.url), BOUNDS)
    if verdict.ok:
        judged = ", ".join(name for name in PROMISE if name not in verdict.unjudged)
        return Verdict(False, f"the history holds: {judged} were checked, none fell")
    fallen = "; ".join(f"{name} fell ({PROMISE[name]})" for name in verdict.fallen)
    return Verdict(True, fallen, tuple(str(v) for v in verdict.violations[:SHOWN_MAX]))
