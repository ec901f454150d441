"""The leader stands still, another leads, and the first one wakes up in the middle of a sentence."""

from __future__ import annotations

import asyncio
import json

from labs.lab import lab
from labs.stage import Stage
from tests.chaos.scenarios.stop import write_under_old_term


@lab(
    "paused_leader",
    "A paused leader",
    question=(
        "One of two servers leads: it alone promotes jobs and expires leases. It is stopped for longer than "
        "the leader's lease lasts, so the other takes over. Then it wakes up and sends the statement that "
        "it was about to send. Nothing told it that it leads no more. What keeps the two apart?"
    ),
    missing="the term in the WHERE",
    chapter="6-faults.md",
    variant="term",
    servers=2,
    workers=1,
)
async def paused_leader(stage: Stage) -> None:
    """The old leader's statement is sent under its old term; the checker looks for rows that it changed."""
    arena = stage.arena
    await stage.enqueue(5, ms=20)
    old = await arena.leader()
    stage.say(
        f"{old.role} leads, under a leader lease of {arena.settings.leader_lease_s:g} s that it renews."
    )
    await stage.key(f"SIGSTOP {old.role}")
    old.stop()
    new = await arena.leader(not_role=old.role)
    stage.say(f"{new.role} leads. {old.role} is stopped, and would swear that it leads.")
    await stage.key(
        f"send what {old.role} would send when it wakes up: promote, under its old term, for five jobs"
        " that become due"
    )
    await write_under_old_term(arena, old.role)
    for event in _statements(stage):
        moved = f"{event['rows']} row{'' if event['rows'] == 1 else 's'}"
        text = f"promote under term {event['term']} while term {event['newest']} exists: {moved}"
        stage.event(text, "red" if event["rows"] else "green")
    await stage.key(f"SIGCONT {old.role}")
    old.resume()
    await arena.settle()
    await asyncio.sleep(arena.settings.leader_lease_s)


def _statements(stage: Stage) -> list[dict[str, int]]:
    lines = stage.arena.recorder.path.read_text().splitlines()
    return [json.loads(line) for line in lines if '"statement"' in line]
