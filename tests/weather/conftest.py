"""What the weather tests share: a pool, a looker-on, and servers with short clocks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from atlasqueue_server.store.database import Database
from tests.factories import open_database


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    """A pool on a migrated database."""
    async with open_database(migrated_database_url) as database:
        yield database


@pytest.fixture
async def connection(migrated_database_url: str) -> AsyncIterator[Any]:
    """A connection that looks on."""
    url = migrated_database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield connection
