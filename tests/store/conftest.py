"""A pool and a looker-on, on PostgreSQL 18 and 15."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term
from tests.factories import Factory, open_database, take_term_by_force


@pytest.fixture
async def database(any_migrated_database_url: str) -> AsyncIterator[Database]:
    """A pool on a migrated database."""
    async with open_database(any_migrated_database_url) as database:
        yield database


@pytest.fixture
async def connection(any_migrated_database_url: str) -> AsyncIterator[Any]:
    """A connection with PostgreSQL's own settings, beside the pool."""
    url = any_migrated_database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def factory(database: Database) -> Factory:
    """Makes jobs of the queue `mail`."""
    return Factory(database, "mail")


@pytest.fixture
async def term(any_migrated_database_url: str) -> Term:
    """A term of leadership."""
    return await take_term_by_force(any_migrated_database_url)
