"""The plans of the hot statements: index scans, whatever ANALYZE has last seen.

The statements are recorded with their parameters while the verbs run, and then explained on a
connection of the server's pool, as the generic plans that the server uses.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from atlasqueue_server.model.jobs import HeldJob, OutcomeKind
from atlasqueue_server.model.states import OPEN, Gone, State
from atlasqueue_server.store import jobs, report, scheduler, sessions
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.dead_letters import redrive_dead_letters_if_dead
from atlasqueue_server.store.enqueue import classify_enqueued_jobs, enqueue_uniform_jobs_if_all_new
from atlasqueue_server.store.scheduler import Term
from atlasqueue_server.store.statements import names, statement
from tests.factories import Factory, execute, outcome_of, uniform_of

# Tables on which a hot statement must never walk all rows.
HOT_TABLES = {
    "ready",
    "leased",
    "jobs",
    "scheduled",
    "dead_letters",
    "checkpoints",
    "failures",
    "finished",
    "finished_default",
}
# What a busy server runs again and again.
HOT = {
    "enqueue_jobs_if_new", "enqueue_uniform_jobs_if_all_new", "classify_enqueued_jobs", "lease_jobs_if_ready",
    *report.STATEMENTS.values(), "classify_reports", "extend_session_if_live", "extend_sessions_if_live",
    "reconcile_jobs_if_not_held", "save_checkpoints_if_fenced", "classify_held_jobs",
    "list_fences_of_sessions", "find_due_queues", "promote_jobs_if_leader",
    "lose_sessions_if_leader", "expire_leases_if_leader", "fail_overdue_jobs_if_leader",
    "cancel_job_if_open", "cancel_jobs_if_open", "find_open_jobs", "get_jobs", "redrive_dead_letters_if_dead", "purge_dead_letters_if_dead",
    "release_undelivered_jobs", "check_sessions",
}  # fmt: skip

# Index scans without the session would walk the leases of all others: 100 ms a heartbeat, with a thousand sessions.
OF_ONE_SESSION = {"reconcile_jobs_if_not_held", "release_undelivered_jobs"}
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
Recorded = dict[str, dict[str, Any]]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The parameters that each statement was last run with."""
    found: Recorded = {}
    by_text = {statement(name): name for name in names()}
    execute_for_real = psycopg.AsyncCursor.execute

    async def record(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        if isinstance(query, bytes) and query in by_text:
            found[by_text[query]] = dict(params or {})
        return await execute_for_real(self, query, params, **options)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", record)
    return found


async def _run_all_verbs(database: Database, factory: Factory, term: Term) -> None:
    """Each hot statement once; the job itself is left behind in no matter which state."""
    gone = await factory.job_in(Gone.GONE)
    for kind in report.STATEMENTS:
        at = await factory.job_in(State.LEASED)
        held = [HeldJob(at.queue, at.job_id, at.fence, 1, "note", b"data")]
        await sessions.heartbeat(database, at.session_id, 1, held, at.fence)
        await sessions.list_fences_of_session(database, at.session_id)
        await sessions.check_sessions(
            database, sessions.KnownSessions.of([sessions.KnownSession(at.session_id, 1, 1, 0)])
        )
        await sessions.extend_idle(database, [sessions.IdleSession(at.session_id, 1, 0)])
        outcome = outcome_of(at.queue, at.job_id, at.fence, kind)
        await report.report_if_fenced(database, {(at.queue, kind): [outcome]})
        await report.classify_reports(database, at.queue, [outcome])
        if kind is OutcomeKind.RELEASE:
            await jobs.find_open_jobs(database, at.queue, [at.job_id], OPEN)
            await jobs.cancel_jobs_if_open(database, at.queue, [at.job_id], OPEN)
            await jobs.cancel_job_if_open(database, at.queue, at.job_id)
        await sessions.release_undelivered(database, at.session_id, 0)
    await classify_enqueued_jobs(database, gone.queue, [gone.job])
    await enqueue_uniform_jobs_if_all_new(database, uniform_of([gone.job]))
    await jobs.get_jobs(database, gone.queue, [gone.job_id], whole=True)
    await redrive_dead_letters_if_dead(database, gone.queue, [gone.job_id])
    await scheduler.find_due_queues(database)
    await scheduler.promote_jobs_if_leader(database, term, "mail", LONG_AGO, 10)
    await scheduler.lose_sessions_if_leader(database, term, 10)
    await scheduler.expire_leases_if_leader(database, term, 10)
    await scheduler.fail_overdue_jobs_if_leader(database, term, 10)


FILL = [
    "insert into atlasqueue.jobs (queue, job_id, kind, priority, payload)"
    " select 'mail', gen_random_uuid(), 'k', 1 + i %% 5, 'p' from generate_series(1, 4000) i",
    "insert into atlasqueue.ready (queue, priority, job_id, attempt, crashes, deliveries, fence, cause)"
    " select queue, priority, job_id, 0, 0, 0, 0, 'e' from atlasqueue.jobs",
    "insert into atlasqueue.leased (queue, job_id, fence, session_id, leased_at, priority, attempt,"
    " crashes, deliveries, deadline_at)"
    " select queue, job_id, row_number() over (), 1 + random() * 20, now(), 3, 0, 0, 1,"
    " now() + interval '1 hour' from atlasqueue.jobs",
    "insert into atlasqueue.scheduled (queue, job_id, run_at, priority, attempt, crashes, deliveries,"
    " fence, cause) select queue, job_id, now() + random() * interval '1 hour', 3, 0, 0, 0, 0, 'e'"
    " from atlasqueue.jobs",
]
EMPTY = [f"delete from atlasqueue.{table}" for table in ("ready", "leased", "scheduled", "jobs")]
# One after the other: how the tables get into each state.
STAGES = {
    "empty": EMPTY,
    "analyzed-empty": ["analyze"],
    "full, statistics of the empty tables": FILL,
    "full": ["analyze"],
    "emptied, statistics of the full tables": EMPTY,
    "emptied": ["analyze"],
}


async def _explain(connection: Any, name: str) -> list[dict[str, Any]]:
    """Every node of the generic plan, which knows no values: nulls do as well as any."""
    order: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in order:
            order.append(match[1])
        return f"${order.index(match[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", number, statement(name).decode()).replace("%%", "%")
    await connection.execute(f"prepare explained as {text}".encode())
    arguments = f"({', '.join(['null'] * len(order))})" if order else ""
    cursor = await connection.execute(
        f"explain (format json) execute explained{arguments}".encode()
    )
    (plan,) = await cursor.fetchone()
    await connection.execute("deallocate explained")
    nodes: list[dict[str, Any]] = []

    def walk(node: dict[str, Any]) -> None:
        nodes.append(node)
        for child in node.get("Plans", ()):
            walk(child)

    walk((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    return nodes


async def test_hot_statements_use_indexes(
    database: Database, connection: Any, factory: Factory, term: Term, recorded: Recorded
) -> None:
    await _run_all_verbs(database, factory, term)
    missing = HOT - set(recorded)
    assert not missing, f"record these too: {sorted(missing)}"
    for stage, statements in STAGES.items():
        for text in statements:
            await execute(connection, text)
        async with database.connection() as pooled:
            for name in sorted(HOT):
                for node in await _explain(pooled, name):
                    if node.get("Relation Name") in HOT_TABLES:
                        kind = node["Node Type"]
                        assert kind not in ("Seq Scan", "Bitmap Heap Scan"), (stage, name, node)
                        if name in OF_ONE_SESSION and kind.startswith("Index"):
                            assert "session_id" in node.get("Index Cond", ""), (stage, name, node)
                    if name == "lease_jobs_if_ready":
                        assert node["Node Type"] not in ("Sort", "Incremental Sort"), (stage, node)
