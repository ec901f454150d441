"""Builds jobs in any state, with the rows that the server's own statements leave behind.

    factory = Factory(database, "queue")
    standing = await factory.job_in(State.DEAD)

Every job has been leased once, so that it has a fence that means something:

    gone       enqueue, lease, reject, purge         leased     enqueue, lease
    scheduled  enqueue, lease, fail                  succeeded  enqueue, lease, complete
    ready      enqueue, lease, release               cancelled  enqueue, lease, cancel by the worker
    dead       enqueue, lease, reject
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from atlasqueue_server.model import limits
from atlasqueue_server.model.columns import UniformJobs
from atlasqueue_server.model.jobs import JobError, NewJob, Outcome, OutcomeKind, Session
from atlasqueue_server.model.states import Gone, Place, State
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.dead_letters import purge_dead_letters_if_dead
from atlasqueue_server.store.enqueue import enqueue_jobs_if_new
from atlasqueue_server.store.lease import LeasedRow, LeaseOrder, SeqWindow, lease_jobs_if_ready
from atlasqueue_server.store.queues import create_queues_if_room
from atlasqueue_server.store.report import report_if_fenced
from atlasqueue_server.store.scheduler import Term
from atlasqueue_server.store.sessions import SessionTerms, open_session

ERROR = JobError("ValueError", "no such customer", "trace")
# Where a job with one table each stands; `finished` holds two states.
SMALL_TABLES = ("scheduled", "ready", "leased", "dead_letters", "finished")
# Every table that says something of a queue's jobs.
QUEUE_TABLES = ("jobs", *SMALL_TABLES, "failures", "checkpoints", "depth_deltas", "depths")

# The outcome that brings a leased job to each place; purge follows for a job that is gone.
_OUTCOMES: dict[Place, OutcomeKind] = {
    Gone.GONE: OutcomeKind.REJECT,
    State.SCHEDULED: OutcomeKind.FAIL,
    State.READY: OutcomeKind.RELEASE,
    State.SUCCEEDED: OutcomeKind.COMPLETE,
    State.CANCELLED: OutcomeKind.CANCEL,
    State.DEAD: OutcomeKind.REJECT,
}


@dataclass(frozen=True)
class Standing:
    """A job, the fence of its last lease (1 when there was none) and the session that had it."""

    job: NewJob
    fence: int
    session_id: int

    @property
    def queue(self) -> str:
        """Its queue."""
        return self.job.queue

    @property
    def job_id(self) -> str:
        """Its id."""
        return self.job.job_id


def new_job(queue: str, **fields: Any) -> NewJob:
    """A job to enqueue; any field may be given."""
    values: dict[str, Any] = {
        "job_id": str(uuid.uuid4()),
        "kind": "email",
        "payload": b"to: ada",
        "priority": 3,
    }
    return NewJob(queue=queue, **(values | fields))


def uniform_of(jobs: Sequence[NewJob]) -> UniformJobs:
    """The same jobs in columns; what is not their id or payload is that of the first."""
    job_ids = b"".join(uuid.UUID(job.job_id).bytes for job in jobs)
    return UniformJobs(jobs[0], job_ids, [job.payload for job in jobs])


class Factory:
    """Makes jobs of one queue through the store."""

    def __init__(self, database: Database, queue: str) -> None:
        self.database = database
        self.queue = queue

    async def enqueue(self, **fields: Any) -> NewJob:
        """A new job, ready or (with run_at) scheduled."""
        return (await self.enqueue_many(1, **fields))[0]

    async def enqueue_many(self, count: int, **fields: Any) -> list[NewJob]:
        """New jobs, in one statement."""
        await create_queues_if_room(self.database, [self.queue])
        jobs = [new_job(self.queue, **fields) for _ in range(count)]
        stored = await enqueue_jobs_if_new(self.database, {self.queue: jobs})
        assert stored == {self.queue: count}
        return jobs

    async def session(self, slots: int = 10) -> Session:
        """A live session without a stream."""
        await create_queues_if_room(self.database, [self.queue])
        terms = SessionTerms((self.queue,), slots, "worker", "server-of-tests", False)
        return await open_session(self.database, terms)

    async def lease(self, session_id: int, jobs: int = 1, **window: int) -> list[LeasedRow]:
        """Leases up to `jobs` in strict order of priority."""
        floor, ceiling = window.get("floor", 0), window.get("ceiling", limits.INT64_MAX)
        windows = [SeqWindow(priority, floor, ceiling) for priority in range(1, 6)]
        order = LeaseOrder(windows, [session_id] * jobs)
        return await lease_jobs_if_ready(self.database, self.queue, [order])

    async def report(
        self, job_id: str, fence: int, kind: OutcomeKind, **fields: Any
    ) -> State | None:
        """Where an outcome brought the job; None: it did not move."""
        outcome = outcome_of(self.queue, job_id, fence, kind, **fields)
        moved = await report_if_fenced(self.database, {(self.queue, kind): [outcome]})
        return moved.get(fence)

    async def job_in(self, place: Place, **fields: Any) -> Standing:
        """A new job that stands in `place`, after one lease. The queue must have no ready jobs."""
        job = await self.enqueue(**fields)
        session = await self.session()
        (row,) = await self.lease(session.session_id)
        assert row.job_id == job.job_id
        if place is not State.LEASED:
            await self.report(job.job_id, row.fence, _OUTCOMES[place])
        if place is Gone.GONE:
            assert await purge_dead_letters_if_dead(self.database, self.queue, [job.job_id]) == 1
        return Standing(job, row.fence, session.session_id)


def outcome_of(queue: str, job_id: str, fence: int, kind: OutcomeKind, **fields: Any) -> Outcome:
    """An outcome with all that its verb needs."""
    match kind:
        case OutcomeKind.FAIL | OutcomeKind.REJECT:
            fields = {"error": ERROR} | fields
        case OutcomeKind.SNOOZE:
            fields = {"delay_ms": 60_000} | fields
        case OutcomeKind.COMPLETE:
            fields = {"result": b"done"} | fields
        case _:
            pass
    return Outcome(queue, job_id, fence, kind, **fields)


@asynccontextmanager
async def open_database(url: str, **settings: int) -> AsyncIterator[Database]:
    """A pool on a database, closed at the end."""
    database = Database(url, **{"connections_max": 4} | settings)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def take_term_by_force(url: str, holder: str = "tests") -> Term:
    """A term of an hour that no server can take over: a leader that runs loses it at once.

    It counts as ticking all the time, so that no outage keeps its statements from expiring anything.
    """
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(
            """
            insert into atlasqueue.leader as l (term, holder, expires_at, ticked_at)
            values (1, %(holder)s, clock_timestamp() + interval '1 hour', 'infinity')
            on conflict (one) do update set
                term = l.term + 1, holder = excluded.holder, expires_at = excluded.expires_at,
                ticked_at = excluded.ticked_at
            returning term
            """,
            {"holder": holder},
        )
        row = await cursor.fetchone()
    assert row is not None
    return Term(row[0], holder)


Snapshot = dict[str, list[str]]


async def execute(url_or_connection: Any, statement: str, **params: Any) -> list[tuple[Any, ...]]:
    """Rows of a plain statement."""
    cursor = await url_or_connection.execute(statement, params)
    return await cursor.fetchall() if cursor.description else []


async def snapshot_of_queue(connection: Any, queue: str) -> Snapshot:
    """Every row of every table that speaks of the queue's jobs."""
    return {
        table: [
            row[0]
            for row in await (
                await connection.execute(
                    sql.SQL(
                        "select t::text from atlasqueue.{} t where queue = %s order by 1"
                    ).format(sql.Identifier(table)),
                    [queue],
                )
            ).fetchall()
        ]
        for table in QUEUE_TABLES
    }


async def snapshot(connection: Any) -> Snapshot:
    """Every row of every table of the schema."""
    tables = await execute(
        connection,
        "select relname from pg_class where relnamespace = 'atlasqueue'::regnamespace"
        " and relkind in ('r', 'p') and not relispartition order by relname",
    )
    found: Snapshot = {}
    for (table,) in tables:
        statement = sql.SQL("select t::text from atlasqueue.{} t order by 1")
        cursor = await connection.execute(statement.format(sql.Identifier(table)))
        found[table] = [row[0] for row in await cursor.fetchall()]
    return found
