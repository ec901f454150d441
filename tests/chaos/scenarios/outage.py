"""Servers go away: all of them, or one after the other."""

from __future__ import annotations

import asyncio

from tests.chaos.arena import Arena
from tests.chaos.load import enqueue_gated, load, open_gate
from tests.chaos.scenarios import scenario


@scenario(
    "outage",
    "the only server is away for four visibility timeouts while jobs run",
    servers=1,
    workers=2,
    slots=500,
)
async def outage(arena: Arena) -> None:
    """When it returns, no running job is delivered a second time."""
    count = arena.of(100, 1000)
    held = await enqueue_gated(arena, count)
    await arena.progress.until(
        lambda: all(map(arena.progress.deliveries, held)), f"{count} jobs run"
    )
    victim = arena.servers["server_1"]
    away_s = 4 * arena.settings.visibility_timeout_s
    arena.strike(f"kill -9 {victim.who} for {away_s:g} s, {count} jobs running")
    victim.kill()
    await asyncio.sleep(away_s)
    await arena.restarted("server_1")
    # Long enough for a lease that was not extended to be found over.
    await asyncio.sleep(2 * arena.settings.visibility_timeout_s)
    open_gate(arena)
    await arena.settle()
    arena.progress.update()
    again = arena.progress.redelivered(held)
    arena.notes["running through the outage"] = f"{count} jobs, {len(again)} delivered again"
    assert arena.broken or not again, f"{len(again)} running jobs were delivered again"


@scenario(
    "outage_of_both",
    "both servers are away; the one that the workers do not know returns first",
    visibility_timeout_s=12.0,
    in_short_form=False,
    catches=("grace",),
)
async def outage_of_both(arena: Arena) -> None:
    """It leads at once and must not expire workers that nobody could hear: they get the outage's time."""
    for role in ("worker_1", "worker_2"):
        await asyncio.to_thread(arena.workers[role].terminate)
        arena.start_worker(role, servers=arena.addresses["server_1"])
    held = await enqueue_gated(arena, arena.settings.slots)
    await arena.progress.until(lambda: all(map(arena.progress.deliveries, held)), "all jobs run")
    for victim in arena.servers.values():
        arena.strike(f"kill -9 {victim.who}")
        victim.kill()
    # Longer than the visibility timeout, and than the leader lease + 5 s from which on there is grace.
    await asyncio.sleep(arena.settings.visibility_timeout_s + 2)
    await arena.restarted("server_2")
    await arena.leads_and_ticks("server_2")
    await asyncio.sleep(1)  # two more looks at the sessions; without grace they are lost by now
    await arena.restarted("server_1")
    await asyncio.sleep(arena.settings.visibility_timeout_s)
    open_gate(arena)
    await arena.settle()
    arena.progress.update()
    again = arena.progress.redelivered(held)
    assert arena.broken or not again, f"{len(again)} running jobs were delivered again"


@scenario("rolling_restart", "SIGTERM of each of two servers in turn, under SDK load")
async def rolling_restart(arena: Arena) -> None:
    """Nothing is lost, and no error reaches a caller with default retries."""
    async with load(arena, arena.of(400, 6000)) as jobs:
        rounds = arena.of(1, 3)
        for number in range(rounds):
            for role in ("server_1", "server_2"):
                await jobs.completed((number + 0.3 + 0.3 * (role == "server_2")) / rounds)
                victim = arena.servers[role]
                arena.strike(f"SIGTERM {victim.who}")
                code = await asyncio.to_thread(victim.terminate)
                assert code == 0, f"{victim.who} ended with {code}; see {victim.log.name}"
                await arena.restarted(role)
    arena.notes["errors to callers"] = str(len(jobs.errors))
    assert not jobs.errors, jobs.errors
