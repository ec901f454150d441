"""prune: finished jobs by the day, dead letters by age; and the days to come.

days of finished:   … kept 7 days … │ today │ tomorrow, the day after: made ahead
a day past its retention: bodies, failures and checkpoints go in bounded batches, in one walk over all that is
due, then the day is dropped whole. A walk counts for one term and one date: under another term, or when at midnight
another day is due, it begins again, or bodies would stay behind that nothing finds any more.

To make or drop a day takes the lock of all days. While a backup holds it, each try makes reports and reads wait, so
the next try is the next tick and no sooner.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
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


@contextlib.contextmanager
def _later_when_in_use(act: str) -> Iterator[None]:
    try:
        yield
    except store.FinishedInUse:
        log.warning("days_wait", act=act, why="others use the table finished; a backup?")


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
        days = [today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD)]
        with _later_when_in_use("make"):
            for day in days:
                if partition_name(day) not in existing:
                    await self._make(term, day)
        return False

    async def _make(self, term: Term, day: date) -> None:
        name, next_day = partition_name(day), day + timedelta(days=1)
        if not await store.create_finished_partition_if_leader(
            self._database, term, name, day, next_day
        ):
            log.warning("day_in_default_partition", partition=name)


class Prune(Loop):
    """Forgets what is past its retention."""

    name = "prune"
    interval_s = 60.0

    def __init__(self, database: Database, journal: Journal | None = None) -> None:
        super().__init__()
        self._database = database
        self._journal = journal or Journal()
        self._walk: tuple[Term, date] | None = None
        # None: it is over.
        self._after: tuple[str, str] | None = START

    async def tick(self, term: Term) -> bool:
        """A batch of finished jobs and one of dead letters; drops the days that are empty of bodies."""
        existing, today = await store.list_finished_partitions(self._database)
        before = today - timedelta(days=limits.FINISHED_RETENTION_DAYS)
        if self._walk != (term, before):
            self._walk, self._after = (term, before), START
        if self._after is not None:
            self._after = await self._prune_bodies(term, before, self._after)
        more = self._after is not None
        if not more:
            with _later_when_in_use("drop"):
                await self._drop_days(term, existing, before)
        dead = await store.prune_dead_letters_if_leader(
            self._database, term, limits.DEAD_LETTER_RETENTION_DAYS, BATCH
        )
        self._journal.pruned(dead)
        return more or dead == BATCH

    async def _prune_bodies(
        self, term: Term, before: date, after: tuple[str, str]
    ) -> tuple[str, str] | None:
        """Goes on with the walk after a key; where it has come to, None at its end."""
        found = await store.find_finished_to_prune(self._database, before, after, BATCH)
        by_queue: dict[str, list[str]] = defaultdict(list)
        for queue, job_id in found:
            by_queue[queue].append(job_id)
        for queue, job_ids in by_queue.items():
            self._journal.pruned(
                await store.prune_bodies_if_leader(self._database, term, queue, job_ids, before)
            )
        if len(found) == BATCH:
            return found[-1]
        await self._delete_default(term, before)
        return None

    async def _drop_days(self, term: Term, existing: list[str], before: date) -> None:
        for name in existing:
            if partition_day(name) < before and await store.drop_finished_partition_if_leader(
                self._database, term, name
            ):
                log.info("day_pruned", partition=name)

    async def _delete_default(self, term: Term, before: date) -> None:
        # All of them: what is left would be walked over again before the next batch.
        deleted = BATCH
        while deleted == BATCH:
            deleted = await store.delete_default_finished_if_leader(
                self._database, term, before, BATCH
            )
