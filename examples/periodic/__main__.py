"""python -m examples.periodic: ticks under two workers, through a restart of everything but the database."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from atlasqueue import AsyncClient
from atlasqueue_server.embedded import EmbeddedPostgres
from atlasqueue_server.testing import UNSAFE_FAST, running_server
from examples.periodic.app import QUEUE, start
from examples.stage import quiet, say, until, worker_process

APP = "examples.periodic.app:app"
EVERY = timedelta(seconds=0.5)
TICKS = 4


def ticks_in(log: Path) -> list[str]:
    """The ticks that were worked, in order."""
    return log.read_text().split() if log.exists() else []


async def begin(address: str) -> None:
    """What every deploy does."""
    async with AsyncClient(address) as client:
        await asyncio.gather(*(start(client, EVERY) for _ in range(10)))
        depth = await client.queues.depth(QUEUE)
        # Its time may have come already.
        say(f"  started the chain ten times at once: {depth.scheduled + depth.ready} job")


async def until_ticked(log: Path, count: int) -> None:
    """Returns when so many more ticks were worked."""
    wanted = len(ticks_in(log)) + count

    async def ticked() -> bool:
        return len(ticks_in(log)) >= wanted

    await until(f"{count} ticks", ticked)


def one_life(database_url: str, log: Path, *, begins: bool) -> None:
    """A server and two workers, for some ticks."""
    settings = {"PERIODIC_LOG": str(log), "PERIODIC_SECONDS": str(EVERY.total_seconds())}
    with running_server(database_url) as server:
        if begins:
            asyncio.run(begin(server.address))
        with (
            worker_process(APP, server.address, **settings),
            worker_process(APP, server.address, **settings),
        ):
            asyncio.run(until_ticked(log, TICKS))
    say(f"  {len(ticks_in(log))} ticks so far; everything but PostgreSQL is stopped")


def main() -> int:
    """Two lives on one database."""
    quiet()
    data = Path(tempfile.mkdtemp(prefix="atlasqueue-periodic-"))
    with tempfile.TemporaryDirectory(prefix="periodic-") as directory:
        log = Path(directory) / "ticks.log"
        with EmbeddedPostgres(data, settings=UNSAFE_FAST, temporary=True) as postgres:
            say("a server and two workers, for the first time:")
            one_life(postgres.url, log, begins=True)
            say("again; nobody starts the chain, the next tick is in the database:")
            one_life(postgres.url, log, begins=False)
        ticks = ticks_in(log)
    double = len(ticks) - len(set(ticks))
    say(f"{len(ticks)} ticks, {double} double, in order: {ticks == sorted(ticks)}")
    return 1 if double or len(ticks) < 2 * TICKS else 0


if __name__ == "__main__":
    sys.exit(main())
