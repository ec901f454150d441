"""Leadership: one row with a term, taken, renewed and resigned by term.

    follower ──take (free or over)──▶ leader ──renew each third of the lease──▶ leader
        ▲                               │  cannot renew within the lease: loops stop
        └───────────────────────────────┘  clean stop: resign, so that another takes over at once

The loops run only while the lease is trusted, by the process's own monotonic clock, started before the
renewal was sent: a process clock only ever stops something earlier. Safety does not rest on that: each
statement of a loop checks its term in the WHERE, so two leaders at once waste work and break nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import Unavailable
from atlasqueue_server.scheduler.loop import Loop, log
from atlasqueue_server.store import scheduler as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term


class Leader:
    """Runs the loops while this server leads."""

    def __init__(
        self,
        database: Database,
        server_id: str,
        loops: Sequence[Loop],
        lease_s: float = limits.LEADER_LEASE_S,
    ) -> None:
        self.loops = loops
        self.term: Term | None = None
        self._database = database
        self._server_id = server_id
        self._lease_s = lease_s

    async def run(self) -> None:
        """Takes part in elections until cancelled, then resigns."""
        try:
            while True:
                asked_at = asyncio.get_running_loop().time()
                self.term = await self._take()
                if self.term is None:
                    await asyncio.sleep(self._lease_s / 10)
                    continue
                log.info("leadership_taken", term=self.term.term)
                await self._lead(self.term, asked_at)
                log.warning("leadership_lost", term=self.term.term)
                self.term = None
        finally:
            if self.term is not None:
                with contextlib.suppress(Exception):
                    await store.resign_leadership_if_leader(self._database, self.term)
                self.term = None

    async def _take(self) -> Term | None:
        try:
            return await store.take_leadership_if_free(
                self._database, self._server_id, self._lease_s
            )
        except Unavailable:
            return None

    async def _lead(self, term: Term, trusted_from: float) -> None:
        tasks = [asyncio.create_task(loop.run(term)) for loop in self.loops]
        try:
            await self._renew_while_trusted(term, trusted_from)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew_while_trusted(self, term: Term, trusted_from: float) -> None:
        clock = asyncio.get_running_loop().time
        while clock() < trusted_from + self._lease_s:
            await asyncio.sleep(self._lease_s / 5)
            asked_at = clock()
            try:
                async with asyncio.timeout(self._lease_s / 2):
                    renewed = await store.renew_leadership_if_leader(
                        self._database, term, self._lease_s
                    )
            except (Unavailable, TimeoutError):
                continue
            if not renewed:
                return
            trusted_from = asked_at
