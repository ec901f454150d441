"""The health service takes any answer of the database for a sign of life, and asks when there was none."""

from __future__ import annotations

import math

import pytest

from atlasqueue_server import app
from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.store.cluster import ping
from atlasqueue_server.store.database import Database
from tests.plugins.server import RunningServer


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
    database.answered_at = -math.inf
    assert not await server.application._database_serves()
    assert pings == 1
