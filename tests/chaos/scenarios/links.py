"""Links between workers, servers and the database: silent, reset, slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

from tests.chaos.arena import Arena
from tests.chaos.link import Link
from tests.chaos.load import load
from tests.chaos.scenarios import scenario

NOTICE_S = 15.0


@asynccontextmanager
async def linked_workers(arena: Arena, count: int) -> AsyncIterator[dict[str, list[Link]]]:
    """Workers that reach each server through a link of their own: by worker, then in order of servers."""
    links: dict[str, list[Link]] = {}
    try:
        for number in range(1, count + 1):
            role = f"worker_{number}"
            links[role] = [Link(address) for address in arena.addresses.values()]
            addresses = [await link.open() for link in links[role]]
            arena.start_worker(role, servers=",".join(addresses))
        yield links
    finally:
        for link in (one for many in links.values() for one in many):
            await link.close()


@scenario(
    "half_open_link", "the link to one server goes silent", workers=0, visibility_timeout_s=6.0
)
async def half_open_link(arena: Arena) -> None:
    """Connections stay open and carry nothing: workers notice and go to the other server (I9 holds)."""
    async with linked_workers(arena, 2) as links, load(arena, arena.of(200, 2500)) as jobs:
        await jobs.completed(0.3)
        arena.strike("both workers' links to server_1 go silent")
        for many in links.values():
            many[0].silence()
        silent_at, before = time.monotonic(), arena.progress.delivered
        # What was on its way does not count: two full sets of slots must come anew.
        enough = before + 4 * arena.settings.slots
        await arena.progress.until(lambda: arena.progress.delivered >= enough, "jobs flow again")
        noticed_s = time.monotonic() - silent_at
        arena.notes["jobs flow again after"] = (
            f"{noticed_s:.1f} s (bound for notice {NOTICE_S:g} s)"
        )
        await jobs.completed(0.8)
        for many in links.values():
            many[0].heal()
        arena.recovers()
    assert not jobs.errors, jobs.errors


@scenario(
    "cut_off_worker", "a worker is cut off from all servers for two visibility timeouts", workers=0
)
async def cut_off_worker(arena: Arena) -> None:
    """Its jobs run elsewhere; when it is back, what it reports of them is refused."""
    async with linked_workers(arena, 3) as links, load(arena, arena.of(200, 2500)) as jobs:
        await jobs.completed(0.3)
        worker = arena.pick(arena.workers)
        arena.strike(f"{worker.who} is cut off")
        worker.cut(healed=False)
        for link in links[worker.role]:
            link.silence()
        await asyncio.sleep(2 * arena.settings.visibility_timeout_s)
        for link in links[worker.role]:
            link.heal()
        worker.cut(healed=True)
        arena.recovers()
    assert not jobs.errors, jobs.errors


@scenario("reset_links", "every connection of the workers is reset, again and again", workers=0)
async def reset_links(arena: Arena) -> None:
    """Streams are opened again with the same session, reports are repeated: nothing runs twice for it."""
    times = arena.of(4, 12)
    async with linked_workers(arena, 2) as links, load(arena, arena.of(250, 3000)) as jobs:
        for number in range(times):
            await jobs.completed((number + 1) / (times + 1))
            count = sum(link.reset() for many in links.values() for link in many)
            arena.strike(f"{count} connections reset")
            arena.recovers()
    assert not jobs.errors, jobs.errors


@scenario("slow_links", "every link is slow", workers=0)
async def slow_links(arena: Arena) -> None:
    """200 ms each way on everything that a worker says and hears."""
    async with linked_workers(arena, 2) as links, load(arena, arena.of(150, 1500)) as jobs:
        await jobs.completed(0.2)
        arena.strike("200 ms on every chunk")
        for link in (one for many in links.values() for one in many):
            link.slow(0.2)
        await jobs.completed(0.7)
        for link in (one for many in links.values() for one in many):
            link.heal()
        arena.recovers()
    assert not jobs.errors, jobs.errors


@scenario(
    "half_open_database",
    "the link between a server and PostgreSQL goes silent",
    servers=2,
    visibility_timeout_s=15.0,
)
async def half_open_database(arena: Arena) -> None:
    """That server can do nothing and must not hold up callers for ever; the other one goes on."""
    parts = urlsplit(arena.url_for_role("server_1"))
    link = Link(f"{parts.hostname}:{parts.port}")
    port = (await link.open()).rpartition(":")[2]
    place = f"{parts.username}:{parts.password}@127.0.0.1:{port}"
    url = urlunsplit(parts._replace(netloc=place))
    try:
        await asyncio.to_thread(arena.servers["server_1"].terminate)
        arena.start_server("server_1", ATLASQUEUE_DATABASE_URL=url)
        await arena.ready()
        async with load(arena, arena.of(200, 2000)) as jobs:
            await jobs.completed(0.3)
            arena.strike("server_1's link to PostgreSQL goes silent")
            link.silence()
            await jobs.completed(0.7)
            link.heal()
            arena.recovers()
        assert not jobs.errors, jobs.errors
    finally:
        await link.close()
