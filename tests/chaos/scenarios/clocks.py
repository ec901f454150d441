"""Clocks that are an hour off."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from glob import glob

from tests.chaos.arena import Arena
from tests.chaos.load import load
from tests.chaos.scenarios import scenario

LIBRARIES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
)


def library() -> str:
    """libfaketime's path, or ""."""
    found = [path for pattern in LIBRARIES for path in glob(pattern)]
    return found[0] if found else ""


def no_faketime() -> str:
    """Why clocks cannot be faked here."""
    if not library():
        return "libfaketime is not installed (`make tools` installs it)"
    command = [sys.executable, "-c", "import time; print(time.time(), time.monotonic())"]
    asked = subprocess.run(
        command, env=os.environ | clock("+1h"), capture_output=True, text=True, check=False
    )
    wall, monotonic = map(float, asked.stdout.split() or ("0", "0"))
    if abs(wall - time.time() - 3600) > 60 or abs(monotonic - time.monotonic()) > 60:
        return f"libfaketime does not fake the wall clock alone here {asked.stderr[:200]}".strip()
    return ""


def clock(offset: str) -> dict[str, str]:
    """Variables of a process whose wall clock is off; its monotonic clock is not."""
    return {
        "LD_PRELOAD": library(),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


@scenario("clocks_off", "clocks of servers and workers an hour off", needs=no_faketime, workers=0)
async def clocks_off(arena: Arena) -> None:
    """Only the database's clock decides anything: no lease ends early or late, no retry waits an hour."""
    await asyncio.to_thread(arena.servers["server_1"].terminate)
    arena.start_server("server_1", **clock("+1h"))
    await arena.ready()
    arena.start_worker("worker_1", **clock("-1h"))
    arena.start_worker("worker_2", **clock("+1h"))
    arena.start_worker("worker_3")
    arena.strike("server_1 +1 h, worker_1 -1 h, worker_2 +1 h")
    async with load(arena, arena.of(250, 3000)) as jobs:
        await jobs.completed(0.4)
        victim = arena.workers["worker_1"]
        arena.strike(f"kill -9 {victim.who}")
        victim.kill()
        await jobs.completed(0.6)
        leader = arena.servers["server_2"]
        arena.strike(f"SIGTERM {leader.who}: server_1 leads with a wrong clock")
        await asyncio.to_thread(leader.terminate)
        await jobs.completed(0.8)
        await arena.restarted("server_2")
    assert not jobs.errors, jobs.errors
