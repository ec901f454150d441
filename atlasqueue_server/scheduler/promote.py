"""promote: scheduled → ready, when run_at has come."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.scheduler.loop import VerbLoop
from atlasqueue_server.store import scheduler as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term

BATCH = 1000
QUEUES_BATCH = 100
START = datetime(1970, 1, 1, tzinfo=UTC)
# A row that commits later than this behind its run_at waits for the tick without a floor.
FLOOR_LAG = timedelta(seconds=10)
SWEEP_S = 10.0
# What has been due for longer is found by the sweep.
WINDOW_S = 60.0


class Promote(VerbLoop):
    """Makes scheduled jobs ready in time."""

    name = "promote"
    interval_s = 0.02
    idle_s = 10.0

    def __init__(
        self, database: Database, signals: Signals, journal: Journal | None = None
    ) -> None:
        super().__init__(database, signals, journal)
        self._promoted_up_to: dict[str, datetime] = {}
        self._after = ""
        self._swept_at: float | None = None

    async def tick(self, term: Term) -> bool:
        """Promotes a batch of each of some queues that have something due, in turn."""
        began = time.monotonic()
        sweep = self._swept_at is None or began - self._swept_at >= SWEEP_S
        window_s = store.ALL_TIME_S if sweep else WINDOW_S
        due = await store.find_due_queues(self._database, self._after, QUEUES_BATCH, window_s)
        more = bool(self._after) or len(due) == QUEUES_BATCH
        self._after = due[-1] if len(due) == QUEUES_BATCH else ""
        for queue in due:
            floor = START if sweep else self._floor(queue)
            count, last = await store.promote_jobs_if_leader(
                self._database, term, queue, floor, BATCH
            )
            self._journal.promoted(queue, count)
            if last is not None:
                self._promoted_up_to[queue] = max(last, self._promoted_up_to.get(queue, START))
                self._signals.jobs_ready([queue])
            elif floor > START:
                # Due by find_due_queues, yet nothing above the floor: it committed late.
                self._promoted_up_to.pop(queue, None)
            more |= count == BATCH
        if sweep and not more:
            # While there is more of what a sweep finds, the next tick sweeps too.
            self._swept_at = began
        return more

    def _floor(self, queue: str) -> datetime:
        return self._promoted_up_to.get(queue, START + FLOOR_LAG) - FLOOR_LAG
