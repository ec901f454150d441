"""Leadership: one row with a term, taken, renewed and resigned by term.

    follower ──take (free or over)──▶ leader ──renew, by each tick──────▶ leader
        ▲                               │  cannot renew within the lease: loops stop; if nobody took
        │                               │  over meanwhile, the term goes on
        └───────────────────────────────┘  clean stop: resign and tell the others, who take over at once

A tick renews, so that it takes no statement of its own; when no tick has for a fifth of the lease, the
leader renews by itself.

The loops run only while the lease is trusted, by the process's own monotonic clock, started before the
renewal was sent: a process clock only ever stops something earlier. Safety does not rest on that: each
statement of a loop checks its term in the WHERE and holds the leader's row meanwhile, so two leaders at
once waste work and break nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence

from atlasqueue_server.domain import supervise
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import Unavailable
from atlasqueue_server.scheduler.loop import Loop, log
from atlasqueue_server.store import scheduler as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term

RESIGN_TIMEOUT_S = 2.0


class Leader:
    """Runs the loops while this server leads."""

    def __init__(
        self,
        database: Database,
        server_id: str,
        loops: Sequence[Loop],
        lease_s: float = limits.LEADER_LEASE_S,
        signals: Signals | None = None,
        renewed_at: Callable[[], float] = lambda: -math.inf,
    ) -> None:
        self.loops = loops
        self.term: Term | None = None
        self.leading = False
        # The newest term under which it led; 0: none.
        self.led_term = 0
        self._database = database
        self._server_id = server_id
        self._lease_s = lease_s
        self._renewed_at = renewed_at
        self._signals = signals or Signals()
        self._vacant = asyncio.Event()
        self._signals.vacant.append(self._vacant.set)

    async def run(self) -> None:
        """Takes part in elections until cancelled, then resigns."""
        try:
            while True:
                asked_at = asyncio.get_running_loop().time()
                term = await self._stand()
                if term is None:
                    await self._wait_for_vacancy()
                    continue
                self.led_term = term.term
                log.info("leadership_taken", term=term.term)
                await self._lead(term, asked_at)
                log.warning("leadership_lost", term=term.term)
        finally:
            await self._resign()

    async def _stand(self) -> Term | None:
        """The term under which this server leads from now on; None while somebody else does."""
        try:
            async with asyncio.timeout(max(1.0, self._lease_s / 2)):
                if self.term is not None and await store.renew_leadership_if_leader(
                    self._database, self.term, self._lease_s
                ):
                    return self.term
                self.term = await store.take_leadership_if_free(
                    self._database, self._server_id, self._lease_s
                )
        except (Unavailable, TimeoutError):
            return None
        return self.term

    async def _wait_for_vacancy(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.LEADER_POLL_S):
                await self._vacant.wait()
        self._vacant.clear()

    async def _resign(self) -> None:
        if self.term is None:
            return
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(RESIGN_TIMEOUT_S):
                await store.resign_leadership_if_leader(self._database, self.term)
            self._signals.leadership_vacant()
        self.term = None

    async def _lead(self, term: Term, trusted_from: float) -> None:
        self.leading = True
        tasks = [asyncio.create_task(loop.run(term), name=loop.name) for loop in self.loops]
        try:
            await self._renew_while_trusted(term, trusted_from)
        finally:
            self.leading = False
            await supervise.stop(*tasks)

    async def _renew_while_trusted(self, term: Term, trusted_from: float) -> None:
        clock = asyncio.get_running_loop().time
        while (left := trusted_from + self._lease_s - clock()) > 0:
            await asyncio.sleep(min(self._lease_s / 5, left))
            asked_at = clock()
            trusted_from = max(trusted_from, self._renewed_at())
            if asked_at - trusted_from < self._lease_s / 5:
                continue
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
