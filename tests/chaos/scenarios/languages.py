"""Workers of two languages on one queue."""

from __future__ import annotations

import asyncio

from tests import golang
from tests.chaos.arena import Arena
from tests.chaos.load import Load, load
from tests.chaos.scenarios import scenario

GO_WORKER = "chaosworker"
LANGUAGES = ("worker", "gopher")


# Building the Go worker takes longer than a short form may; tests/chaos/test_two_languages.py runs it.
@scenario(
    "two_languages",
    "a Go and a Python worker share a queue, kill -9 of both and of servers",
    needs=golang.missing,
    in_short_form=False,
)
async def two_languages(arena: Arena) -> None:
    """Each takes over what the other loses, and both have jobs of the same queue to show at the end."""
    program = [str(await asyncio.to_thread(golang.build, GO_WORKER))]
    for number in range(1, arena.settings.workers + 1):
        arena.start_worker(f"gopher_{number}", program=program)
    async with load(arena, arena.of(400, 4000)) as jobs:
        for share in (0.2, 0.4, 0.6) if arena.short else (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
            await jobs.completed(share)
            await _strike(arena, jobs, share, program)
    finished = {language: _completed(arena, language) for language in LANGUAGES}
    arena.notes["completed"] = f"{finished['worker']} in Python, {finished['gopher']} in Go"
    assert all(finished.values()), finished
    assert not jobs.errors, jobs.errors


async def _strike(arena: Arena, jobs: Load, share: float, program: list[str]) -> None:
    """A worker of either language or a server, by the seed."""
    victim = arena.pick(arena.servers if arena.random.random() < 1 / 3 else arena.workers)
    arena.strike(f"kill -9 {victim.who}")
    victim.kill()
    if victim.is_server:
        await jobs.completed(share + 0.05)
        await arena.restarted(victim.role)
        return
    if victim.role.startswith("gopher"):
        arena.start_worker(victim.role, program=program)
    else:
        arena.start_worker(victim.role)
    arena.recovers()


def _completed(arena: Arena, language: str) -> int:
    """Jobs whose last delivery was to a worker of the language."""
    progress = arena.progress
    progress.update()
    last = (progress.deliveries(job_id)[-1:] for job_id in progress.accepted)
    return sum(who.startswith(language) for (who,) in filter(None, last))
