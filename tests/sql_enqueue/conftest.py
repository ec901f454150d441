"""A producer that may call atlasqueue.enqueue and nothing else."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.plugins.postgres import with_user

GRANTS = (
    "grant usage on schema atlasqueue to {}",
    "grant execute on function atlasqueue.enqueue to {}",
)


@contextmanager
def a_role(url: str, *grants: str) -> Iterator[str]:
    """A role of its own with these grants; the URL with which it connects."""
    role, password = f"producer_{uuid.uuid4().hex}", uuid.uuid4().hex
    name = sql.Identifier(role)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login password {}").format(name, password))
        for grant in grants:
            admin.execute(sql.SQL(grant).format(name))
        try:
            yield with_user(url, role, password)
        finally:
            admin.execute(sql.SQL("drop owned by {}").format(name))
            admin.execute(sql.SQL("drop role {}").format(name))


@pytest.fixture
def producer_url(any_migrated_database_url: str) -> Iterator[str]:
    """The URL of a role that may enqueue, on PostgreSQL 18 and 15."""
    with a_role(any_migrated_database_url, *GRANTS) as url:
        yield url


@pytest.fixture
async def producer(producer_url: str) -> AsyncIterator[Any]:
    """A connection of the producer, which begins a transaction with its first statement."""
    async with await psycopg.AsyncConnection.connect(producer_url) as connection:
        yield connection


@pytest.fixture
async def admin(any_migrated_database_url: str) -> AsyncIterator[Any]:
    """A connection that sees what is stored."""
    url = any_migrated_database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield connection
