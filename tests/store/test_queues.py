"""Queues come into being while there is room."""

from __future__ import annotations

import pytest

from atlasqueue_server.model import limits
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.queues import create_queues_if_room


async def test_a_queue_that_exists_takes_no_room(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named before a new one, it took the last place from it."""
    monkeypatch.setattr(limits, "QUEUES_MAX", 2)
    assert await create_queues_if_room(database, ["a"]) == ["a"]
    assert await create_queues_if_room(database, ["a", "b", "c"]) == ["b"]
