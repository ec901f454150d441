"""kill -9 of a worker, of a server, of the leader."""

from __future__ import annotations

import time

from tests.chaos.arena import Arena
from tests.chaos.load import load
from tests.chaos.scenarios import scenario


@scenario("kill_worker", "kill -9 of workers", workers=3)
async def kill_worker(arena: Arena) -> None:
    """Workers die with jobs in hand; others take their place, and the jobs run again."""
    async with load(arena, arena.of(300, 4000)) as jobs:
        for share in (0.2, 0.5) if arena.short else (0.15, 0.3, 0.45, 0.6, 0.75):
            await jobs.completed(share)
            victim = arena.pick(arena.workers)
            arena.strike(f"kill -9 {victim.who}")
            victim.kill()
            arena.start_worker(victim.role)
            arena.recovers()
    assert not jobs.errors, jobs.errors


@scenario("kill_server", "kill -9 of a server", servers=3)
async def kill_server(arena: Arena) -> None:
    """A server dies under load; clients and workers move on, and it comes back."""
    async with load(arena, arena.of(300, 4000)) as jobs:
        for share in (0.3,) if arena.short else (0.2, 0.4, 0.6):
            await jobs.completed(share)
            victim = arena.pick(arena.servers)
            arena.strike(f"kill -9 {victim.who}")
            victim.kill()
            await jobs.completed(share + 0.1)
            await arena.restarted(victim.role)
    assert not jobs.errors, jobs.errors


@scenario("kill_leader", "kill -9 of the leader", servers=3)
async def kill_leader(arena: Arena) -> None:
    """Another server leads soon. How soon is a note in the table: the aim is leader lease + 1 s."""
    waits = []
    async with load(arena, arena.of(300, 4000)) as jobs:
        for share in (0.3,) if arena.short else (0.2, 0.4, 0.6):
            await jobs.completed(share)
            victim = await arena.leader()
            arena.strike(f"kill -9 {victim.who} (leads)")
            victim.kill()
            killed_at = time.monotonic()
            await arena.leader(not_role=victim.role)
            waits.append(time.monotonic() - killed_at)
            await arena.restarted(victim.role)
    lease = arena.settings.leader_lease_s
    arena.notes["new leader after"] = f"{max(waits):.1f} s (leader lease {lease:g} s)"
    assert not jobs.errors, jobs.errors
