"""Folds depth deltas, so that depth stays cheap to read."""

from __future__ import annotations

from atlasqueue_server.scheduler.loop import Loop
from atlasqueue_server.store import scheduler as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term

BATCH = 10_000


class FoldDepths(Loop):
    """Keeps the table of deltas small."""

    name = "fold_depths"
    interval_s = 1.0

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    async def tick(self, term: Term) -> bool:
        """Folds a batch of what has gathered."""
        return await store.fold_depths_if_leader(self._database, term, BATCH) == BATCH
