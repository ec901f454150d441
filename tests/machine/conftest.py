"""The store on a database of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import uvloop

from atlasqueue_server.model import limits
from atlasqueue_server.store.database import Database
from tests.machine.real import Real


@pytest.fixture
def real(migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Real]:
    """The store on a database of its own, with caps low enough to be met."""
    monkeypatch.setattr(limits, "CRASH_CAP", 2)
    monkeypatch.setattr(limits, "UNKNOWN_KIND_DELIVERIES_MAX", 2)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        database = Database(migrated_database_url, connections_max=2)
        real = Real(runner, database, migrated_database_url)
        yield real
        real.close()
