"""Queues: their coming into being, policies, pause, depth."""

from __future__ import annotations

from collections.abc import Sequence

from atlasqueue_server.model import limits
from atlasqueue_server.model.jobs import Depth, Queue, QueuePolicy
from atlasqueue_server.model.retry import RetryPolicy
from atlasqueue_server.store.database import Database, Row


async def create_queues_if_room(database: Database, names: Sequence[str]) -> list[str]:
    """Creates those that do not exist, while there is room; returns the new ones."""
    rows = await database.run(
        "create_queues_if_room", {"names": list(names), "queues_max": limits.QUEUES_MAX}
    )
    return [row[0] for row in rows]


async def get_queues(database: Database, names: Sequence[str]) -> list[Queue]:
    """Those that exist, by name."""
    return [_queue(row) for row in await database.run("get_queues", {"names": list(names)})]


async def list_queues(database: Database, after: str, most: int) -> list[Queue]:
    """Up to `most` queues whose names are above `after`."""
    return [
        _queue(row) for row in await database.run("list_queues", {"after": after, "most": most})
    ]


async def update_queue_policy(
    database: Database, name: str, policy: QueuePolicy, fields: frozenset[str]
) -> Queue | None:
    """Sets the named fields of the policy (columns of `queues`); None: no such queue."""
    values = {
        "max_attempts": policy.retry.max_attempts,
        "backoff_initial_ms": policy.retry.backoff_initial_ms,
        "backoff_multiplier": policy.retry.backoff_multiplier,
        "backoff_cap_ms": policy.retry.backoff_cap_ms,
        "visibility_timeout_ms": policy.visibility_timeout_ms,
    }
    chosen = {f"set_{field}": field in fields for field in values}
    rows = await database.run("update_queue_policy", {"name": name} | values | chosen)
    return _queue(rows[0]) if rows else None


async def pause_queue(database: Database, name: str) -> Queue | None:
    """Stops leases; None: no such queue."""
    rows = await database.run("pause_queue", {"name": name})
    return _queue(rows[0]) if rows else None


async def resume_queue(database: Database, name: str) -> Queue | None:
    """Allows leases; None: no such queue."""
    rows = await database.run("resume_queue", {"name": name})
    return _queue(rows[0]) if rows else None


def _queue(row: Row) -> Queue:
    name, paused, attempts, initial_ms, multiplier, cap_ms, visibility_ms, created_at = row
    retry = RetryPolicy(attempts, initial_ms, multiplier, cap_ms)
    return Queue(name, paused, QueuePolicy(retry, visibility_ms), created_at)


async def get_depth(database: Database, queue: str) -> Depth:
    """Jobs by state, exact."""
    return Depth(*(await database.run("get_depth", {"queue": queue}))[0])
