"""The verbs that a worker reports, each its own statement, and what became of the reports they did not move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atlasqueue_server.model import limits
from atlasqueue_server.model.columns import CompletedJobs
from atlasqueue_server.model.jobs import Outcome, OutcomeKind
from atlasqueue_server.model.states import State
from atlasqueue_server.store import arrays
from atlasqueue_server.store.database import Database

STATEMENTS = {
    OutcomeKind.COMPLETE: "complete_jobs_if_fenced",
    OutcomeKind.FAIL: "fail_jobs_if_fenced",
    OutcomeKind.REJECT: "reject_jobs_if_fenced",
    OutcomeKind.SNOOZE: "snooze_jobs_if_fenced",
    OutcomeKind.RELEASE: "release_jobs_if_fenced",
    OutcomeKind.CANCEL: "cancel_jobs_if_fenced",
    OutcomeKind.UNKNOWN_KIND: "set_aside_unknown_kinds_if_fenced",
}

STATES = {state.value: state for state in State}

POLICY_DEFAULTS = {
    "max_attempts": limits.MAX_ATTEMPTS_DEFAULT,
    "backoff_initial_ms": limits.BACKOFF_INITIAL_MS_DEFAULT,
    "backoff_multiplier": limits.BACKOFF_MULTIPLIER_DEFAULT,
    "backoff_cap_ms": limits.BACKOFF_CAP_MS_DEFAULT,
}


def _leases(queue: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "queue": queue,
        "job_ids": arrays.uuids([o.job_id for o in outcomes]),
        "fences": arrays.bigints([o.fence for o in outcomes]),
    }


def _errors(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "error_types": [o.error.type for o in outcomes],
        "error_messages": [o.error.message for o in outcomes],
        "error_stacks": [o.error.stack for o in outcomes],
    }


def _params(queue: str, kind: OutcomeKind, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    params = _leases(queue, outcomes)
    match kind:
        case OutcomeKind.COMPLETE:
            results = [o.result for o in outcomes]
            # Unnest pads a short array with nulls, so an array of nulls need not travel.
            params["results"] = arrays.byteas(results if any(results) else ())
        case OutcomeKind.FAIL:
            params |= POLICY_DEFAULTS | _errors(outcomes)
            params["retry_afters_ms"] = [o.delay_ms for o in outcomes]
        case OutcomeKind.REJECT:
            params |= _errors(outcomes)
            params["cause"] = "r"
        case OutcomeKind.SNOOZE:
            params["delays_ms"] = [o.delay_ms for o in outcomes]
        case OutcomeKind.UNKNOWN_KIND:
            params["delay_s"] = limits.UNKNOWN_KIND_DELAY_S
            params["unknown_kind_deliveries"] = limits.UNKNOWN_KIND_DELIVERIES_MAX
        case OutcomeKind.RELEASE | OutcomeKind.CANCEL:
            pass
    return params


async def report_if_fenced(
    database: Database, groups: Mapping[tuple[str, OutcomeKind], Sequence[Outcome]]
) -> dict[int, State]:
    """Stores outcomes with distinct fences, grouped by queue and verb and sorted by id, in one transaction.

    Returns by fence where the jobs that moved stand now; the others did not move.
    """
    ordered = sorted(groups.items())
    results = await database.run_together(
        [(STATEMENTS[kind], _params(queue, kind, outcomes)) for (queue, kind), outcomes in ordered]
    )
    moved: dict[int, State] = {}
    for ((_, kind), outcomes), rows in zip(ordered, results, strict=True):
        if kind is OutcomeKind.COMPLETE:
            moved |= _completed(outcomes, *rows[0])
        else:
            moved |= {fence: STATES[state] for fence, state in rows}
    return moved


async def complete_jobs_if_fenced(database: Database, jobs: CompletedJobs) -> Sequence[int]:
    """Stores completes without a result, with distinct fences; returns those fences that moved."""
    params = {
        "queue": jobs.queue,
        "job_ids": arrays.uuids_of_bytes(jobs.job_ids),
        "fences": arrays.bigints(jobs.fences),
        "results": arrays.byteas(()),
    }
    ((count, fences),) = await database.run("complete_jobs_if_fenced", params)
    return jobs.fences if count == len(jobs) else fences or ()


def _completed(
    outcomes: Sequence[Outcome], count: int, fences: list[int] | None
) -> dict[int, State]:
    """Most often all of them: then the statement does not list them."""
    moved = [o.fence for o in outcomes] if count == len(outcomes) else fences or ()
    return dict.fromkeys(moved, State.SUCCEEDED)


async def bury_lost_bodies(database: Database, queue: str, jobs: Sequence[tuple[str, int]]) -> None:
    """Leased jobs (id, fence) whose body is missing become dead letters BODY_LOST."""
    ordered = sorted(jobs)
    message = "the job's body is missing from the database"
    await database.run(
        "reject_jobs_if_fenced",
        {
            "queue": queue,
            "job_ids": arrays.uuids([job_id for job_id, _ in ordered]),
            "fences": arrays.bigints([fence for _, fence in ordered]),
            "error_types": [None] * len(ordered),
            "error_messages": [message] * len(ordered),
            "error_stacks": [None] * len(ordered),
            "cause": "b",
        },
    )


async def classify_reports(
    database: Database, queue: str, outcomes: Sequence[Outcome]
) -> dict[int, str]:
    """By fence (they are distinct): already_applied, stale, not_found, or retry for one to report again."""
    rows = await database.run(
        "classify_reports",
        _leases(queue, outcomes) | {"outcomes": [o.kind.value for o in outcomes]},
    )
    return dict(rows)
