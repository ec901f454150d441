"""The database's disk is full."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from contextlib import suppress

from tests.chaos.arena import Arena
from tests.chaos.load import load
from tests.chaos.scenarios import scenario
from tests.history.events import Outage

DISK_MB = 400
CHUNK = bytes(1024 * 1024)
FULL = "No space left on device"


def no_small_disk() -> str:
    """Why a small disk cannot be made here."""
    if os.name != "posix" or os.geteuid() != 0:
        return "a small disk is a mounted tmpfs, and only root can mount"
    with tempfile.TemporaryDirectory() as directory:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return "a small disk is a mounted tmpfs, and mounting is not allowed here"
        subprocess.run(["umount", directory], check=True)
    return ""


@scenario(
    "disk_full",
    "PostgreSQL's disk is full for a while",
    needs=no_small_disk,
    visibility_timeout_s=15.0,
    disk_mb=DISK_MB,
)
async def disk_full(arena: Arena) -> None:
    """Statements fail, PostgreSQL may even stop: nothing acknowledged is lost, and it goes on after."""
    ballast = arena.postgres.data_directory.parent / "ballast"
    async with load(arena, arena.of(250, 3000)) as jobs:
        await jobs.completed(0.3)
        arena.strike("disk filled up")
        arena.recorder.record(Outage, who="database", ended=False)
        filling = asyncio.create_task(_keep_full(str(ballast)))
        await asyncio.sleep(arena.of(3, 8))
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
        ballast.unlink()
        if not arena.postgres.is_running:
            arena.notes["PostgreSQL"] = "had stopped, and was started again"
            await asyncio.to_thread(arena.postgres.restart, "immediate")
        arena.recorder.record(Outage, who="database", ended=True)
        arena.recovers()
        refused = arena.postgres.log_file.read_text("utf-8", "replace").count(FULL)
        arena.notes["writes refused for want of space"] = str(refused)
        assert refused, "the disk was never full"
    assert not jobs.errors, jobs.errors


async def _keep_full(path: str) -> None:
    """Takes every free byte, also those that the database frees meanwhile."""
    with open(path, "wb", buffering=0) as file:
        while True:
            with suppress(OSError):
                while file.write(CHUNK):
                    pass
            await asyncio.sleep(0.05)
