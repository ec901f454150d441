"""The scheduler's own sign of life, which renews the leader's lease as well, and the outage grace.

While nobody ticks, nobody could be heard either: the servers were down, or the database. Whoever ticks
first then extends every session that lives and every deadline by the gap, before anything expires:

    tick   tick      ╳ outage ╳      tick: the gap is too long ─▶ extend by the gap ─▶ tick ─▶ expire
    ──┴──────┴───────────────────────┴──────────────────────────────────────────────────────▶ database time

A change of leader leaves a gap too, yet the other servers heard every heartbeat in it, so it gives no
grace: under a new term only a gap of more than the leader's lease + 5 s counts. Under a term that has
ticked before, no change of leader explains the gap, and 2 s count (docs/decisions/0008).

That nothing expires before is no matter of order among the loops: lose_sessions_if_leader and
fail_overdue_jobs_if_leader change no row unless the last tick is recent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from atlasqueue_server.model import limits
from atlasqueue_server.scheduler.loop import Loop, log
from atlasqueue_server.scheduler.promote import WINDOW_S
from atlasqueue_server.store import scheduler as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Ahead, Term


class Tick(Loop):
    """Ticks, and grants the outage grace where a tick is missing."""

    name = "tick"
    interval_s = 0.35

    def __init__(
        self,
        database: Database,
        lease_s: float = limits.LEADER_LEASE_S,
        look_ahead: Callable[[Ahead], None] = lambda ahead: None,
    ) -> None:
        super().__init__()
        self._database = database
        self._lease_s = lease_s
        self._look_ahead = look_ahead
        self._ticked: Term | None = None
        # When the last tick that renewed the leader's lease was sent, by the event loop's clock.
        self.renewed_at = -math.inf

    async def tick(self, term: Term) -> bool:
        """Ticks once."""
        asked_at = asyncio.get_running_loop().time()
        outage_s = self.outage_s(term)
        ahead = await store.tick_if_leader(self._database, term, self._lease_s, outage_s, WINDOW_S)
        if ahead is not None:
            self.renewed_at = asked_at
            self._look_ahead(ahead)
        else:
            outage = await store.extend_by_outage_if_leader(self._database, term, outage_s)
            if outage is None:
                return False
            log.warning(
                "outage_grace",
                gap_s=round(outage.gap_s, 3),
                sessions=outage.sessions,
                deadlines=outage.deadlines,
            )
        self._ticked = term
        return False

    def outage_s(self, term: Term) -> float:
        """The gap from which on an outage is assumed, seconds."""
        if term == self._ticked:
            return limits.TICKED_WITHIN_S
        return self._lease_s + limits.OUTAGE_MARGIN_S
