"""The final database: where every job stands, and the journal of how it came there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.history.events import JobKey, body_hash, value_hash

JOURNAL = Path(__file__).with_name("journal.sql")
Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Standing:
    """A job in one place: scheduled, ready, leased, dead, succeeded or cancelled."""

    place: str
    fence: int
    deliveries: int
    result: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """A job's arrival in a place. Times are the database's, seconds since 1970."""

    number: int
    key: JobKey
    place: str
    cause: str = ""
    fence: int = 0
    deliveries: int = 0
    session_id: int = 0
    result: str = ""
    began: float = 0.0
    at: float = 0.0
    actor: str = ""


@dataclass(frozen=True, slots=True)
class TermRow:
    """The leader's row as it was taken, renewed, ticked or resigned."""

    term: int
    began: float
    ticked: float
    actor: str


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as it was opened (lost false) or lost."""

    session_id: int
    worker: str
    visibility_timeout_s: float
    lost: bool
    began: float
    at: float
    actor: str


@dataclass
class Final:
    """What the database holds in the end. `journaled` is false when it has no journal."""

    now: float = 0.0
    bodies: dict[JobKey, str] = field(default_factory=dict)
    standings: dict[JobKey, list[Standing]] = field(default_factory=dict)
    failures: set[tuple[JobKey, int, str]] = field(default_factory=set)
    journaled: bool = True
    moves: list[Move] = field(default_factory=list)
    terms: list[TermRow] = field(default_factory=list)
    sessions: list[SessionRow] = field(default_factory=list)

    def moves_by_job(self) -> dict[JobKey, list[Move]]:
        """The journal, job by job. Row locks put the moves of one job in the order of their numbers."""
        found: dict[JobKey, list[Move]] = defaultdict(list)
        for move in sorted(self.moves, key=lambda m: m.number):
            found[move.key].append(move)
        return found


def install_journal(database_url: str) -> None:
    """Adds the journal to a migrated database of a test."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(JOURNAL.read_bytes())


def read_final(database_url: str) -> Final:
    """Reads everything in one snapshot."""
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        final = Final(
            now=_rows(connection, "select extract(epoch from clock_timestamp())::float8")[0][0]
        )
        _read_bodies(connection, final)
        _read_standings(connection, final)
        final.failures = {
            ((queue, job_id), fence, cause)
            for queue, job_id, fence, cause in _rows(
                connection,
                "select queue, job_id::text, fence, cause::text from atlasqueue.failures",
            )
        }
        final.journaled = _rows(connection, "select to_regclass('journal.moves') is not null")[0][0]
        if final.journaled:
            _read_journal(connection, final)
        return final


def _rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    return connection.execute(statement.encode()).fetchall()


def _read_bodies(connection: Connection, final: Final) -> None:
    statement = "select queue, job_id::text, kind, payload, priority from atlasqueue.jobs"
    for queue, job_id, kind, payload, priority in _rows(connection, statement):
        final.bodies[queue, job_id] = body_hash(kind, payload, priority)


def _read_standings(connection: Connection, final: Final) -> None:
    statement = """
        select queue, job_id::text, 'scheduled', fence, deliveries, null::bytea from atlasqueue.scheduled
        union all select queue, job_id::text, 'ready', fence, deliveries, null from atlasqueue.ready
        union all select queue, job_id::text, 'leased', fence, deliveries, null from atlasqueue.leased
        union all select queue, job_id::text, 'dead', fence, deliveries, null from atlasqueue.dead_letters
        union all
        select
            queue, job_id::text, case state when 's' then 'succeeded' else 'cancelled' end,
            fence, deliveries, coalesce(result, '')
        from atlasqueue.finished
    """
    for queue, job_id, place, fence, deliveries, result in _rows(connection, statement):
        hashed = "" if result is None else value_hash(result)
        standing = Standing(place, fence, deliveries, hashed)
        final.standings.setdefault((queue, job_id), []).append(standing)


def _read_journal(connection: Connection, final: Final) -> None:
    final.moves = [
        Move(number, (queue, job_id), *rest)
        for number, queue, job_id, *rest in _rows(
            connection,
            """
            select
                id, queue, job_id::text, place, coalesce(cause::text, ''), coalesce(fence, 0),
                coalesce(deliveries, 0), coalesce(session_id, 0), coalesce(result, ''),
                extract(epoch from began)::float8, extract(epoch from at)::float8, actor
            from journal.moves order by id
            """,
        )
    ]
    final.terms = [
        TermRow(*row)
        for row in _rows(
            connection,
            """
            select term, extract(epoch from began)::float8, extract(epoch from ticked_at)::float8, actor
            from journal.terms order by id
            """,
        )
    ]
    final.sessions = [
        SessionRow(*row)
        for row in _rows(
            connection,
            """
            select
                session_id, worker, visibility_timeout_ms / 1000.0::float8, lost,
                extract(epoch from began)::float8, extract(epoch from at)::float8, actor
            from journal.sessions order by id
            """,
        )
    ]
