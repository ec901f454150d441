"""enqueue: bodies and first places of new jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atlasqueue_server.model.jobs import Enqueued, NewJob
from atlasqueue_server.store.database import Database


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


async def enqueue_jobs_if_new(
    database: Database, by_queue: Mapping[str, Sequence[NewJob]]
) -> dict[str, int]:
    """Stores jobs, with distinct ids in each queue, in one transaction; by queue: how many were new."""
    ordered = sorted(by_queue.items())
    results = await database.run_together(
        [("enqueue_jobs_if_new", _params(queue, jobs)) for queue, jobs in ordered]
    )
    return {queue: rows[0][0] for (queue, _), rows in zip(ordered, results, strict=True)}


async def classify_enqueued_jobs(
    database: Database, queue: str, jobs: Sequence[NewJob]
) -> dict[int, Enqueued]:
    """By position in `jobs`: stored with this body or with another. What is missing: enqueue it again."""
    rows = await database.run("classify_enqueued_jobs", _params(queue, jobs))
    return {at - 1: Enqueued.STORED if same else Enqueued.CONFLICT for at, same in rows}
