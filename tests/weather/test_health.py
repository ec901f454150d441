"""What keeps a server in office: its health takes any answer of the database for a sign of life, and its leases and
its lead do not wait for calls.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import psycopg
import pytest

from atlasqueue_server import app
from atlasqueue_server.domain.jobs import NIL
from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.store.cluster import ping
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.jobs import list_failures
from atlasqueue_server.store.sessions import SessionTerms, open_session
from tests.factories import execute
from tests.plugins.server import RunningServer
from tests.waiting import eventually, eventually_so

TICKED_AT = "select ticked_at from atlasqueue.leader"


async def test_health_asks_only_when_nothing_was_answered_of_late(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It showed as one of an idle server's sixteen statements a second."""
    pings = 0

    async def no_answer(_: Database) -> bool:
        nonlocal pings
        pings += 1
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(app, "ping", no_answer)
    database = server.application.database
    await ping(database)
    assert await server.application._database_serves()
    assert pings == 0
    for pool in (database, server.application.reserved):
        monkeypatch.setattr(pool, "answered_at", -math.inf)
    assert not await server.application._database_serves()
    assert pings == 1


async def test_calls_that_wait_hold_up_neither_heartbeats_nor_the_leader(
    server: RunningServer, connection: Any
) -> None:
    """All links of the pool waited for a lock, as in a VACUUM FULL: the leader did not tick once in 25 s, and
    heartbeats failed, so that under another leader the leases of living workers would have expired.
    """
    application = server.application
    await application.queues.ensure_all(["mail"])
    session = await open_session(application.database, SessionTerms(("mail",), 1, "w", "", True))
    async with await psycopg.AsyncConnection.connect(application.database.url) as locked:
        await execute(locked, "lock table atlasqueue.failures in access exclusive mode")
        calls = [
            asyncio.create_task(list_failures(application.database, "mail", NIL)) for _ in range(40)
        ]
        await eventually_so(lambda: application.database.pool_stats().get("requests_waiting"))
        term = application.leader.term
        ((ticked_at,),) = await execute(connection, TICKED_AT)
        for _ in range(3):
            beat = application.workers.heartbeat(session.session_id, session.epoch, (), 0)
            assert await beat is not None

        async def ticks() -> bool:
            ((now,),) = await execute(connection, TICKED_AT)
            return bool(now > ticked_at)

        await eventually(ticks)
        assert application.leader.term == term
    await asyncio.gather(*calls, return_exceptions=True)
