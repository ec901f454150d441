"""Finds a pooler that hands a connection's statements to whichever backend is free.

AtlasQueue sets plans and timeouts for a connection, prepares statements on it, listens on it and locks on it
while it migrates. All of that lives in one backend. A pooler in transaction or statement mode changes the
backend below a connection, and what was set there then hits others, or is missing.

Poolers do not say what they are, so two connections are watched:

    one    ──▶ backend 71   ──▶ backend 71             ──▶ backend 71    asked again while `two` is in a transaction
    two                          begin ──▶ backend 72

A connection that changes its backend, or two live ones on the same, are pooled by transaction. A pooler in
session mode keeps them apart, and so does PostgreSQL itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import psycopg

from atlasqueue_server.store.database import Connection, connect
from atlasqueue_server.store.statements import statement

# A pooler whose backends are all busy keeps a statement waiting.
ANSWER_S: Final = 10.0
PROTOCOL_VIOLATION: Final = "08P01"
ADVICE: Final = (
    "Give the address of PostgreSQL itself, or set pool_mode = session for this database "
    "(docs/operating/pgbouncer.md)"
)

Backend = tuple[int, datetime]


def shares_backends(one: Sequence[Backend], two: Backend) -> bool:
    """Whether the backends that two open connections were seen on show a pooler at work."""
    return len(set(one)) > 1 or two in one


async def pools_transactions(database_url: str) -> bool:
    """Whether a pooler in transaction or statement mode stands before the database.

    Raises psycopg.Error, TimeoutError.
    """
    async with asyncio.timeout(ANSWER_S), await _connect(database_url) as one:
        first = [await _backend(one), await _backend(one)]
        async with await _connect(database_url) as two:
            try:
                async with two.transaction():
                    other = await _backend(two)
                    if shares_backends(first, other):
                        return True
                    return shares_backends([*first, await _backend(one)], other)
            except psycopg.Error as error:
                # What pgbouncer answers to BEGIN in statement mode.
                if error.sqlstate == PROTOCOL_VIOLATION:
                    return True
                raise


async def _connect(database_url: str) -> Connection:
    return await connect(database_url, "atlasqueue-pooler-check", prepare_threshold=None)


async def _backend(connection: Connection) -> Backend:
    # In binary: as text a time looks as DateStyle says, and not all of its styles can be read.
    cursor = connection.cursor(binary=True)
    row = await (await cursor.execute(statement("get_backend"))).fetchone()
    assert row is not None
    pid, started_at = row
    assert isinstance(pid, int)
    assert isinstance(started_at, datetime)
    return pid, started_at
