"""enqueue: bodies and first places of new jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from atlasqueue_server.model.jobs import Enqueued, NewJob
from atlasqueue_server.store.database import Connection, Database, Row, fetch, send

Cursor = psycopg.AsyncCursor[Row]


def _sparse(values: list[Any]) -> list[Any]:
    """Unnest pads short arrays with nulls, so an array of nulls need not travel."""
    return values if any(v is not None for v in values) else []


def _params(queue: str, jobs: Sequence[NewJob]) -> dict[str, Any]:
    return {
        "queue": queue,
        "job_ids": [j.job_id for j in jobs],
        "kinds": [j.kind for j in jobs],
        "priorities": [j.priority for j in jobs],
        "payloads": [j.payload for j in jobs],
        "headers": _sparse([j.headers_json for j in jobs]),
        "run_ats": _sparse([j.run_at for j in jobs]),
        "deadlines_ms": _sparse([j.deadline_ms for j in jobs]),
        "max_attempts": _sparse([j.policy.max_attempts for j in jobs]),
        "backoff_initials_ms": _sparse([j.policy.backoff_initial_ms for j in jobs]),
        "backoff_multipliers": _sparse([j.policy.backoff_multiplier for j in jobs]),
        "backoff_caps_ms": _sparse([j.policy.backoff_cap_ms for j in jobs]),
    }


async def send_enqueue_jobs_if_new(
    connection: Connection, queue: str, jobs: Sequence[NewJob]
) -> Cursor:
    """Sends the enqueue of one queue's jobs, whose ids are distinct; its row is the number of new ones."""
    return await send(connection, "enqueue_jobs_if_new", _params(queue, jobs))


async def fetch_count(cursor: Cursor) -> int:
    """The single number that a statement returns."""
    return int((await fetch(cursor))[0][0])


async def classify_enqueued_jobs(
    database: Database, queue: str, jobs: Sequence[NewJob]
) -> dict[str, Enqueued]:
    """By id: stored with this body or with another. An id that is missing must be enqueued again."""
    rows = await database.run("classify_enqueued_jobs", _params(queue, jobs))
    return {job_id: Enqueued.STORED if same else Enqueued.CONFLICT for job_id, same in rows}
