"""The primary dies, and its standby is promoted."""

from __future__ import annotations

import asyncio

from tests.chaos.arena import Arena
from tests.chaos.load import load
from tests.chaos.scenarios import scenario
from tests.chaos.scenarios.database import ROOMY_S
from tests.plugins.standby import sync_state

STREAMS_WITHIN_S = 30.0


# It has a test of its own, tests/operating/test_failover.py, which runs every time.
@scenario(
    "failover",
    "kill -9 of the primary, its synchronous standby promoted",
    in_short_form=False,
    standby="synchronous",
    visibility_timeout_s=ROOMY_S,
)
async def failover(arena: Arena) -> None:
    """Servers find the new primary by themselves, and nothing that was acknowledged is missing there.

    For a moment before its end the primary commits what its standby never gets: none of that may have been
    acknowledged.
    """
    await _follows(arena)
    async with load(arena, arena.of(300, 5000)) as jobs:
        await jobs.completed(0.3)
        down_s = arena.random.uniform(0.2, 1.0)
        arena.strike(f"primary killed, standby promoted {down_s:.1f} s later")
        await arena.fail_over(cut_off_s=0.5, down_s=down_s)
    assert not jobs.errors, jobs.errors


async def _follows(arena: Arena) -> None:
    wanted = "sync" if arena.settings.standby == "synchronous" else "async"
    async with asyncio.timeout(STREAMS_WITHIN_S):
        while await asyncio.to_thread(sync_state, arena.postgres) != wanted:
            await asyncio.sleep(0.05)
