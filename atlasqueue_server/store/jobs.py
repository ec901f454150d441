"""Reads of jobs, and cancel."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any

from atlasqueue_server.model import limits
from atlasqueue_server.model.jobs import Failure, Job, JobError, JobFilter
from atlasqueue_server.model.retry import RetryPolicy
from atlasqueue_server.model.states import OPEN, State
from atlasqueue_server.store.database import Database, Row


async def get_jobs(
    database: Database, queue: str, job_ids: Sequence[str], *, whole: bool
) -> list[Job]:
    """The jobs that exist among `job_ids`, without failures, in one snapshot, in no order.

    Unless `whole`, payload, result and checkpoint are left out.
    """
    params = {"queue": queue, "job_ids": list(job_ids), "whole": whole}
    rows = await database.run("get_jobs", params)
    return [_job(row) for row in rows]


def _job(row: Row) -> Job:
    fields = iter(row)

    def take(n: int) -> list[Any]:
        return list(itertools.islice(fields, n))

    queue, job_id, kind, payload, headers, priority, run_at, deadline_ms = take(8)
    policy = RetryPolicy(*take(4))
    state, attempt, crashes, deliveries, fence = take(5)
    return Job(
        queue,
        job_id,
        kind,
        payload or b"",
        headers,
        priority,
        run_at,
        deadline_ms,
        policy,
        State(state) if state else None,
        attempt or 0,
        crashes or 0,
        deliveries or 0,
        fence or 0,
        *fields,
    )


async def list_failures(database: Database, queue: str, job_id: str) -> list[Failure]:
    """The newest failures of a job, oldest first."""
    rows = await database.run(
        "list_failures", {"queue": queue, "job_id": job_id, "most": limits.FAILURES_SHOWN_MAX}
    )
    return [_failure(row) for row in reversed(rows)]


async def list_last_failures(
    database: Database, queue: str, job_ids: Sequence[str]
) -> dict[str, Failure]:
    """By id: the last failure of each job that has one."""
    rows = await database.run("list_last_failures", {"queue": queue, "job_ids": list(job_ids)})
    return {row[0]: _failure(row[1:]) for row in rows}


def _failure(row: Row) -> Failure:
    fence, attempt, cause, error_type, message, stack, failed_at = row
    return Failure(fence, attempt, code(cause), JobError(error_type, message, stack), failed_at)


def code(value: str | bytes) -> str:
    """A value of PostgreSQL's one-byte type "char"."""
    return value.decode() if isinstance(value, bytes) else value


async def find_queues_of_job(database: Database, job_id: str) -> list[str]:
    """Up to two queues in which the id stands."""
    return [row[0] for row in await database.run("find_queues_of_job", {"job_id": job_id})]


class Cancelled(StrEnum):
    """What cancel found."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    FINAL = "final"
    DEAD = "dead"
    NOT_FOUND = "not_found"


async def cancel_job_if_open(
    database: Database, queue: str, job_id: str
) -> tuple[Cancelled, int | None, int | None] | None:
    """What cancel did, with session and fence of a leased job; None: it moved meanwhile, run it again."""
    rows = await database.run("cancel_job_if_open", {"queue": queue, "job_id": job_id})
    if not rows:
        return None
    found, session_id, fence = rows[0]
    return Cancelled(found), session_id, fence


async def cancel_jobs_if_open(
    database: Database, queue: str, job_ids: Sequence[str], states: Collection[State]
) -> list[tuple[str, int | None, int | None]]:
    """Those that were cancelled, and with session and fence those asked for: the ones in `states`."""
    rows = await database.run("cancel_jobs_if_open", _open(queue, job_ids, states))
    return [(row[0], row[1], row[2]) for row in rows]


async def find_open_jobs(
    database: Database, queue: str, job_ids: Sequence[str], states: Collection[State]
) -> list[tuple[str, bool]]:
    """Those that a cancel would touch, being in `states`, and whether each is leased."""
    rows = await database.run("find_open_jobs", _open(queue, job_ids, states))
    return [(row[0], row[1]) for row in rows]


def _open(queue: str, job_ids: Sequence[str], states: Collection[State]) -> dict[str, Any]:
    return {"queue": queue, "job_ids": sorted(job_ids)} | {
        state.value: state in states for state in OPEN
    }


_LISTS = {
    None: "list_jobs",
    State.SCHEDULED: "list_scheduled_jobs",
    State.LEASED: "list_leased_jobs",
    State.DEAD: "list_dead_jobs",
    State.SUCCEEDED: "list_finished_jobs",
    State.CANCELLED: "list_finished_jobs",
}


def _filters(queue: str, jobs: JobFilter, examined: int) -> dict[str, Any]:
    return {
        "queue": queue,
        "kind": jobs.kind,
        "created_after": jobs.created_after,
        "created_before": jobs.created_before,
        "examined": examined,
    }


async def list_job_ids(
    database: Database, queue: str, jobs: JobFilter, after: str, examined: int
) -> list[tuple[str, bool]]:
    """Up to `examined` ids above `after` in any state but ready, and whether each fits the filter."""
    params = _filters(queue, jobs, examined) | {"after": after}
    if jobs.state in (State.SUCCEEDED, State.CANCELLED):
        params["state"] = jobs.state[0]
    return [(row[0], row[1]) for row in await database.run(_LISTS[jobs.state], params)]


async def list_ready_job_ids(
    database: Database, queue: str, jobs: JobFilter, after: tuple[int, int], examined: int
) -> list[tuple[str, bool, int, int]]:
    """Up to `examined` (id, fits, priority, seq) of ready jobs behind `after`, in dispatch order."""
    params = _filters(queue, jobs, examined)
    params |= {"after_priority": after[0], "after_seq": after[1]}
    return [
        (row[0], row[1], row[2], row[3]) for row in await database.run("list_ready_jobs", params)
    ]
