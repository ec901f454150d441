"""prune: finished jobs by the day, dead letters by age; and the days to come.

days of finished:   … kept 7 days … │ today │ tomorrow, the day after: made ahead
a day past its retention: bodies, failures and checkpoints go in bounded batches, in one walk over all that is
due, then the day is dropped whole. A walk counts for one term and one date: under another term, or when at midnight
another day is due, it begins again, or bodies would stay behind that nothing finds any more.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta

from atlasqueue_server.domain.jobs import NIL
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model import limits
from atlasqueue_server.model.partitions import DAYS_AHEAD, partition_day, partition_name
from atlasqueue_server.scheduler.loop import Loop, log
from atlasqueue_server.store import scheduler as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term

BATCH = 1000
START = ("", NIL)


class Partitions(Loop):
    """Makes the days of finished ahead of time."""

    name = "partitions"
    interval_s = 600.0

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    async def tick(self, term: Term) -> bool:
        """Makes today and the days to come, where they are missing."""
        existing, today = await store.list_finished_partitions(self._database)
        for ahead in range(DAYS_AHEAD):
            day = today + timedelta(days=ahead)
            if partition_name(day) not in existing:
                made = await store.create_finished_partition_if_leader(
                    self._database, term, partition_name(day), day, day + timedelta(days=1)
                )
                if not made:
                    log.warning("day_in_default_partition", partition=partition_name(day))
        return False


class Prune(Loop):
    """Forgets what is past its retention."""

    name = "prune"
    interval_s = 60.0

    def __init__(self, database: Database, journal: Journal | None = None) -> None:
        super().__init__()
        self._database = database
        self._journal = journal or Journal()
        self._walk: tuple[Term, date] | None = None
        self._after = START

    async def tick(self, term: Term) -> bool:
        """A batch of finished jobs and one of dead letters; drops the days that are empty of bodies."""
        existing, today = await store.list_finished_partitions(self._database)
        before = today - timedelta(days=limits.FINISHED_RETENTION_DAYS)
        if self._walk != (term, before):
            self._walk, self._after = (term, before), START
        more = await self._prune_bodies(term, before)
        if not more:
            await self._drop_days(term, existing, before)
        dead = await store.prune_dead_letters_if_leader(
            self._database, term, limits.DEAD_LETTER_RETENTION_DAYS, BATCH
        )
        self._journal.pruned(dead)
        return more or dead == BATCH

    async def _prune_bodies(self, term: Term, before: date) -> bool:
        found = await store.find_finished_to_prune(self._database, before, self._after, BATCH)
        by_queue: dict[str, list[str]] = defaultdict(list)
        for queue, job_id in found:
            by_queue[queue].append(job_id)
        for queue, job_ids in by_queue.items():
            self._journal.pruned(
                await store.prune_bodies_if_leader(self._database, term, queue, job_ids, before)
            )
        self._after = found[-1] if len(found) == BATCH else START
        return len(found) == BATCH

    async def _drop_days(self, term: Term, existing: list[str], before: date) -> None:
        for name in existing:
            if partition_day(name) < before and await store.drop_finished_partition_if_leader(
                self._database, term, name
            ):
                log.info("day_pruned", partition=name)
        # All of them: what is left would be walked over again before the next batch.
        deleted = BATCH
        while deleted == BATCH:
            deleted = await store.delete_default_finished_if_leader(
                self._database, term, before, BATCH
            )
