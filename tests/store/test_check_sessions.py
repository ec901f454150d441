"""A server's look at its open streams: everything that it has to know, in one statement."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from atlasqueue_server.model.states import State
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.sessions import KnownSession, KnownSessions, check_sessions
from tests.factories import Factory, execute

UNKNOWN = 1_000_000


async def test_a_look_finds_what_is_not_as_known(
    database: Database, connection: Any, factory: Factory
) -> None:
    as_known, lost, reopened = [await factory.session() for _ in range(3)]
    # Nobody asks for a cancel of these two; of the second, what is counted is above the floor.
    held, below = [await factory.job_in(State.LEASED) for _ in range(2)]
    cancelled = await factory.job_in(State.LEASED)
    reported = await factory.job_in(State.SUCCEEDED)
    for statement, session_id in (
        ("update atlasqueue.sessions set lost = true where session_id = %(id)s", lost.session_id),
        ("update atlasqueue.sessions set epoch = 5 where session_id = %(id)s", reopened.session_id),
        (
            "update atlasqueue.leased set cancel_requested = true where session_id = %(id)s",
            cancelled.session_id,
        ),
    ):
        await execute(connection, statement, id=session_id)
    found, cancels = await check_sessions(
        database,
        KnownSessions.of(
            [
                KnownSession(as_known.session_id, 1),
                KnownSession(lost.session_id, 1),
                KnownSession(reopened.session_id, 4),
                KnownSession(held.session_id, 1, 1, held.fence - 1),
                KnownSession(below.session_id, 1, 1, below.fence),
                KnownSession(cancelled.session_id, 1, 1, cancelled.fence - 1),
                KnownSession(reported.session_id, 1, 1, reported.fence - 1),
                KnownSession(UNKNOWN, 1),
            ]
        ),
    )
    assert sorted(found) == sorted(
        [
            (lost.session_id, True, 1, False),
            (reopened.session_id, False, 5, False),
            (below.session_id, False, 1, True),
            (reported.session_id, False, 1, True),
            (UNKNOWN, True, 0, False),
        ]
    )
    assert cancels == [(cancelled.session_id, cancelled.queue, cancelled.job_id, cancelled.fence)]


async def test_a_look_is_one_statement(
    database: Database, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It showed as eight of an idle server's sixteen statements a second: two selects in a transaction
    of their own, twice a second."""
    session = await factory.session()
    sent: list[bytes] = []
    execute_for_real = psycopg.AsyncCursor.execute

    async def record(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        sent.append(query)
        return await execute_for_real(self, query, *args, **options)

    def refuse(self: Any, *args: Any, **options: Any) -> Any:
        raise AssertionError("a look needs no transaction of its own")

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", record)
    monkeypatch.setattr(psycopg.AsyncConnection, "transaction", refuse)
    await check_sessions(database, KnownSessions.of([KnownSession(session.session_id, 1)]))
    assert len(sent) == 1
