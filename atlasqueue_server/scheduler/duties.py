"""All duties of the leader, and how the tick sets them to work.

The tick looks ahead in the statement by which it says that it lives; the loops for which there is work
are wanted, the others sleep:

    tick ──to_expire──▶ expire        tick ──due_in_s──▶ promote, at the moment when the job is due
         ──overdue────▶ fail_overdue       ──to_fold───▶ fold_depths
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.scheduler.depths import FoldDepths
from atlasqueue_server.scheduler.expire import AdoptOrphans, Expire, FailOverdue
from atlasqueue_server.scheduler.loop import Loop
from atlasqueue_server.scheduler.promote import Promote
from atlasqueue_server.scheduler.prune import Partitions, Prune
from atlasqueue_server.scheduler.tick import Tick
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Ahead


class Duties:
    """The loops of one server's scheduler."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        leader_lease_s: float,
        journal: Journal | None = None,
    ) -> None:
        self._tick = Tick(database, leader_lease_s, self._look_ahead)
        self._expire = Expire(database, signals, journal)
        self._fail_overdue = FailOverdue(database, signals, journal)
        self._promote = Promote(database, signals, journal)
        self._fold_depths = FoldDepths(database)
        self._rare = (AdoptOrphans(database), Partitions(database), Prune(database, journal))

    @property
    def loops(self) -> Sequence[Loop]:
        """All of them."""
        often = (self._tick, self._expire, self._fail_overdue, self._promote, self._fold_depths)
        return (*often, *self._rare)

    @property
    def renewed_at(self) -> float:
        """When the last tick that renewed the leader's lease was sent, by the event loop's clock."""
        return self._tick.renewed_at

    def _look_ahead(self, ahead: Ahead) -> None:
        if ahead.to_expire:
            self._expire.want()
        if ahead.overdue:
            self._fail_overdue.want()
        if ahead.to_fold:
            self._fold_depths.want()
        # What is due later than the next tick, the next tick will tell.
        if ahead.due_in_s is not None and ahead.due_in_s < 2 * self._tick.interval_s:
            asyncio.get_running_loop().call_later(max(0.0, ahead.due_in_s), self._promote.want)
