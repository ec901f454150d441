"""enqueue: bodies and first places of new jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import errors

from atlasqueue_server.model.columns import UniformJobs
from atlasqueue_server.model.jobs import Enqueued, NewJob
from atlasqueue_server.model.retry import NO_POLICY
from atlasqueue_server.store import arrays
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.lease import LeasedRow, LeaseOrder, lease_statements, leased_rows


def _sparse(values: Sequence[Any]) -> list[Any]:
    """Unnest pads short arrays with nulls, so an array of nulls need not travel."""
    return list(values) if any(v is not None for v in values) else []


def _params(queue: str, jobs: Sequence[NewJob]) -> dict[str, Any]:
    _, job_ids, kinds, payloads, priorities, headers, run_ats, deadlines_ms, policies = zip(
        *jobs, strict=True
    )
    if any(policy is not NO_POLICY for policy in policies):
        max_attempts, initials_ms, multipliers, caps_ms = map(_sparse, zip(*policies, strict=True))
    else:
        max_attempts = initials_ms = multipliers = caps_ms = []
    return {
        "queue": queue,
        "job_ids": arrays.uuids(job_ids),
        "kinds": arrays.texts(kinds),
        "priorities": arrays.smallints(priorities),
        "payloads": arrays.byteas(payloads),
        "headers": arrays.texts(_sparse(headers)),
        "run_ats": _sparse(run_ats),
        "deadlines_ms": arrays.integers(_sparse(deadlines_ms)),
        "max_attempts": arrays.smallints(max_attempts),
        "backoff_initials_ms": arrays.integers(initials_ms),
        "backoff_multipliers": multipliers,
        "backoff_caps_ms": arrays.integers(caps_ms),
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


async def enqueue_uniform_jobs_if_all_new(database: Database, jobs: UniformJobs) -> bool:
    """Stores jobs that are ready at once, in one transaction; False: one of their ids exists, and none is stored."""
    shared = jobs.shared
    params = {
        "queue": shared.queue,
        "kind": shared.kind,
        "priority": shared.priority,
        "headers": shared.headers_json,
        "deadline_ms": shared.deadline_ms,
        **shared.policy._asdict(),
        "job_ids": arrays.uuids_of_bytes(jobs.job_ids),
        "payloads": arrays.byteas(jobs.payloads),
    }
    try:
        await database.run("enqueue_uniform_jobs_if_all_new", params)
    except errors.UniqueViolation:
        return False
    return True


async def enqueue_and_lease_jobs(
    database: Database, queue: str, jobs: Sequence[NewJob], orders: Sequence[LeaseOrder]
) -> tuple[int, list[LeasedRow]]:
    """Stores jobs with distinct ids, then leases from their queue, in one transaction.

    How many were new, and what was leased: the first in order, which may be other jobs.
    """
    ((stored,), *leased) = await database.run_together(
        [("enqueue_jobs_if_new", _params(queue, jobs)), *lease_statements(queue, orders)]
    )
    return stored[0], leased_rows(leased)


async def classify_enqueued_jobs(
    database: Database, queue: str, jobs: Sequence[NewJob]
) -> dict[int, Enqueued]:
    """By position in `jobs`: stored with this body or with another. What is missing: enqueue it again."""
    rows = await database.run("classify_enqueued_jobs", _params(queue, jobs))
    return {at - 1: Enqueued.STORED if same else Enqueued.CONFLICT for at, same in rows}
