"""A stale fence changes nothing, in every statement that touches a lease.

The list of statements is taken from store/sql: one that mentions atlasqueue.leased and is not named
here fails the first test, so that nobody adds one without saying what guards it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from atlasqueue_server.model.jobs import HeldJob, OutcomeKind
from atlasqueue_server.model.states import State
from atlasqueue_server.store import report, sessions
from atlasqueue_server.store.database import Database, fetch, send
from atlasqueue_server.store.scheduler import (
    Term,
    expire_leases_if_leader,
    fail_overdue_jobs_if_leader,
)
from atlasqueue_server.store.statements import names, statement
from tests.factories import Factory, Standing, execute, outcome_of, snapshot

# Statements that name a lease by its fence: each is tried with every stale lease below.
BY_FENCE = {*report.STATEMENTS.values(), "save_checkpoints_if_fenced"}
# Statements that end or change leases under another guard; the tests below try each of them.
BY_SESSION = {"reconcile_jobs_if_not_held", "release_undelivered_jobs"}
BY_TERM = {"expire_leases_if_leader", "fail_overdue_jobs_if_leader"}
# What does not change a row of leased that exists.
HARMLESS = {
    "adopt_orphans_if_leader": "gives a session to leases that have none",
    "cancel_job_if_open": "asks for a cancel by id: whoever holds the job then is told",
    "cancel_jobs_if_open": "the same, of many",
    "check_sessions": "reads",
    "classify_held_jobs": "reads",
    "classify_reports": "reads",
    "extend_sessions_if_live": "reads leased",
    "extend_by_outage_if_leader": "moves deadlines later, ends no lease",
    "delete_lost_sessions_if_leader": "reads leased, deletes sessions that hold nothing",
    "find_open_jobs": "reads",
    "get_jobs": "reads",
    "lease_jobs_if_ready": "inserts under a new fence",
    "list_fences_of_sessions": "reads",
    "list_leased_jobs": "reads",
    "list_sessions": "reads",
    "tick_if_leader": "reads",
}


def test_every_statement_on_leased_has_a_guard_here() -> None:
    touching = {name for name in names() if b"atlasqueue.leased" in statement(name)}
    assert touching == BY_FENCE | BY_SESSION | BY_TERM | set(HARMLESS)


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_harmless_is_harmless(name: str) -> None:
    text = statement(name).lower()
    assert b"delete from atlasqueue.leased" not in text
    updates = name in ("cancel_job_if_open", "cancel_jobs_if_open", "extend_by_outage_if_leader")
    assert (b"update atlasqueue.leased" in text) == updates


@dataclass
class Scene:
    """`moved` was leased by `older` and is leased again, to `newer`; `other` is leased to `older`."""

    moved: Standing
    other: Standing
    older: int
    newer: int
    old_fence: int

    def stale(self) -> dict[str, tuple[str, int]]:
        """(id, fence) of every wrong way to name a lease."""
        return {
            "the fence of the lease before": (self.moved.job_id, self.old_fence),
            "one below": (self.moved.job_id, self.moved.fence - 1),
            "one above": (self.moved.job_id, self.moved.fence + 1),
            "the fence of another job": (self.moved.job_id, self.other.fence),
            "another job under the fence": (self.other.job_id, self.moved.fence),
            "no such job": (str(uuid.uuid4()), self.moved.fence),
        }


@pytest.fixture
async def scene(factory: Factory) -> Scene:
    before = await factory.job_in(State.READY)
    # Spends fences, so that no stale fence below is by chance the one before.
    spare = await factory.session()
    newer = await factory.session()
    (again,) = await factory.lease(newer.session_id)
    assert again.job_id == before.job_id
    # The other job is leased last, to the session that had the first lease.
    job = await factory.enqueue()
    (row,) = await factory.lease(before.session_id)
    moved = Standing(before.job, again.fence, newer.session_id)
    other = Standing(job, row.fence, before.session_id)
    assert spare.session_id not in (moved.session_id, other.session_id)
    return Scene(moved, other, before.session_id, newer.session_id, before.fence)


async def _checkpoint(database: Database, queue: str, job_id: str, fence: int) -> None:
    params: dict[str, Any] = {"job_ids": [job_id], "fences": [fence], "percents": [50]}
    params |= {"queue": queue, "notes": ["half"], "data": [b"state"]}
    await database.run("save_checkpoints_if_fenced", params)


async def _run(database: Database, name: str, queue: str, job_id: str, fence: int) -> None:
    if name == "save_checkpoints_if_fenced":
        await _checkpoint(database, queue, job_id, fence)
        return
    kind = next(kind for kind, file in report.STATEMENTS.items() if file == name)
    outcome = outcome_of(queue, job_id, fence, kind)
    moved = await report.report_if_fenced(database, {(queue, kind): [outcome]})
    (answer,) = (await report.classify_reports(database, queue, [outcome])).values()
    if not moved:
        assert answer in ("stale", "not_found")


@pytest.mark.parametrize("name", sorted(BY_FENCE))
async def test_stale_fence_changes_nothing(
    database: Database, connection: Any, scene: Scene, name: str
) -> None:
    queue = scene.moved.queue
    before = await snapshot(connection)
    for how, (job_id, fence) in scene.stale().items():
        await _run(database, name, queue, job_id, fence)
        assert await snapshot(connection) == before, how
    # The right lease under the name of another queue is no lease either.
    await _run(database, name, "other", scene.moved.job_id, scene.moved.fence)
    assert await snapshot(connection) == before
    # And the statement does move what it may, so the scene is one in which it could.
    await _run(database, name, queue, scene.moved.job_id, scene.moved.fence)
    assert await snapshot(connection) != before


@pytest.mark.parametrize("kind", list(OutcomeKind))
async def test_stale_fence_among_good_ones(
    database: Database, connection: Any, scene: Scene, kind: OutcomeKind
) -> None:
    """In one batch, the stale one stays and the good one moves."""
    queue = scene.moved.queue
    leases = [(scene.moved.job_id, scene.old_fence), (scene.other.job_id, scene.other.fence)]
    outcomes = [outcome_of(queue, *lease, kind) for lease in sorted(leases)]
    moved = await report.report_if_fenced(database, {(queue, kind): outcomes})
    assert list(moved) == [scene.other.fence]
    rows = await execute(connection, "select job_id::text, fence from atlasqueue.leased")
    assert rows == [(scene.moved.job_id, scene.moved.fence)]


async def test_heartbeat_with_stale_fences(
    database: Database, connection: Any, scene: Scene
) -> None:
    """The older worker says that it holds the job, under every wrong fence: all are lost, nothing moves."""
    queue = scene.moved.queue
    before = await snapshot(connection)
    good = HeldJob(queue, scene.other.job_id, scene.other.fence)
    for job_id, fence in [*scene.stale().values(), (scene.moved.job_id, scene.moved.fence)]:
        # The last one is the right fence, told by the wrong session; it tells of no progress.
        news = {} if fence == scene.moved.fence else {"percent": 1, "checkpoint": b"stale"}
        held = [good, HeldJob(queue, job_id, fence, **news)]
        extended = await sessions.heartbeat(database, scene.older, 1, held, scene.other.fence + 9)
        assert extended is not None
        assert [(lost.job_id, lost.fence) for lost in extended.lost] == [(job_id, fence)]
        assert not extended.reconciled
        after = await snapshot(connection)
        assert after.pop("sessions") != before["sessions"]
        assert after == {k: v for k, v in before.items() if k != "sessions"}


async def test_reconcile_and_reopen_touch_their_own_session_only(
    database: Database, connection: Any, scene: Scene
) -> None:
    before = await snapshot(connection)
    params = {"session_id": scene.older, "held_fences": [scene.other.fence]}
    params |= {"arrives_within_s": 60, "fence_floor": 0}
    everything = 2**62
    assert not await database.run("reconcile_jobs_if_not_held", params | {"last_fence": everything})
    params["held_fences"] = []
    below = scene.other.fence - 1
    assert not await database.run("reconcile_jobs_if_not_held", params | {"last_fence": below})
    fence = scene.other.fence
    assert not await sessions.release_undelivered(database, scene.older, fence)
    assert await snapshot(connection) == before
    # Above what arrived, but on its way for too long to arrive any more.
    late = params | {"last_fence": below, "arrives_within_s": 0}
    async with database.connection() as trial, trial.transaction(force_rollback=True):
        assert len(await fetch(await send(trial, "reconcile_jobs_if_not_held", late))) == 1
    # Not held and not above what arrived: back to ready, and the other session's lease stays.
    at = params | {"last_fence": fence}
    assert len(await database.run("reconcile_jobs_if_not_held", at)) == 1
    assert await execute(connection, "select fence from atlasqueue.leased") == [
        (scene.moved.fence,)
    ]


async def test_scheduler_leaves_live_leases(
    database: Database, connection: Any, scene: Scene, term: Term
) -> None:
    """Sessions that live and deadlines that have not come; then the wrong terms, with all of it due."""
    before = await snapshot(connection)
    assert not await expire_leases_if_leader(database, term, 10)
    assert not await fail_overdue_jobs_if_leader(database, term, 10)
    assert await snapshot(connection) == before
    await execute(connection, "update atlasqueue.sessions set lost = true")
    await execute(connection, "update atlasqueue.leased set deadline_at = now() - interval '1 s'")
    before = await snapshot(connection)
    for wrong in (
        Term(term.term - 1, term.holder),
        Term(term.term + 1, term.holder),
        Term(term.term, "x"),
    ):
        assert not await expire_leases_if_leader(database, wrong, 10)
        assert not await fail_overdue_jobs_if_leader(database, wrong, 10)
    assert await snapshot(connection) == before
    assert len(await expire_leases_if_leader(database, term, 1)) == 1
    assert len(await fail_overdue_jobs_if_leader(database, term, 10)) == 1
