"""Dead letters: find, redrive, purge."""

from __future__ import annotations

from collections.abc import Sequence

from atlasqueue_server.model.jobs import DeadLetterFilter
from atlasqueue_server.store.database import Database


async def find_dead_letters(
    database: Database, queue: str, dead_letters: DeadLetterFilter, after: str, most: int
) -> list[str]:
    """Up to `most` ids above `after` that fit the filter."""
    rows = await database.run(
        "find_dead_letters",
        {
            "queue": queue,
            "after": after,
            "most": most,
            "kind": dead_letters.kind,
            "reason": dead_letters.reason,
            "died_before": dead_letters.died_before,
        },
    )
    return [row[0] for row in rows]


async def count_dead_letters(database: Database, queue: str, job_ids: Sequence[str]) -> int:
    """How many of the ids are dead letters."""
    return await _count(database, "count_dead_letters", queue, job_ids)


async def redrive_dead_letters_if_dead(
    database: Database, queue: str, job_ids: Sequence[str]
) -> int:
    """Moves those of the ids that are dead letters back to ready; how many."""
    return await _count(database, "redrive_dead_letters_if_dead", queue, job_ids)


async def purge_dead_letters_if_dead(database: Database, queue: str, job_ids: Sequence[str]) -> int:
    """Deletes those of the ids that are dead letters; how many."""
    return await _count(database, "purge_dead_letters_if_dead", queue, job_ids)


async def _count(database: Database, name: str, queue: str, job_ids: Sequence[str]) -> int:
    rows = await database.run(name, {"queue": queue, "job_ids": sorted(job_ids)})
    return int(rows[0][0])
