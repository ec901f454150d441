"""The pool of connections, and how a statement runs on it.

Every connection pins the plans of the hot statements: with the planner's defaults a lease becomes a
sequential scan and a sort after an ANALYZE of an empty table. Every statement that is not part of a
named transaction commits by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.store import arrays
from atlasqueue_server.store.statements import statement

Row = tuple[Any, ...]
Params = Mapping[str, Any]
Connection = AsyncConnection[Row]

SESSION_SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
    "search_path": "",
}

# What goes away when the statement is run again.
TRANSIENT = (errors.DeadlockDetected, errors.SerializationFailure)
TRANSIENT_TRIES = 3


async def configure(connection: Connection) -> None:
    """Pins plans and bounds waits on a new connection."""
    arrays.register(connection)
    await connection.execute(
        statement("configure_connection"),
        {"names": list(SESSION_SETTINGS), "settings": list(SESSION_SETTINGS.values())},
    )


class Database:
    """A small pool on one database. All methods raise DatabaseUnavailable when it does not answer."""

    def __init__(
        self, url: str, *, connections_min: int = 2, connections_max: int = 10, wait_s: float = 5.0
    ) -> None:
        self.url = url
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=min(connections_min, connections_max),
            max_size=connections_max,
            timeout=wait_s,
            open=False,
            configure=configure,
            reconnect_timeout=0,
            max_lifetime=3600,
            kwargs={
                "autocommit": True,
                "prepare_threshold": 0,
                "application_name": "atlasqueue-server",
                "connect_timeout": 5,
                "keepalives_idle": 10,
                "keepalives_interval": 3,
                "keepalives_count": 3,
            },
        )

    async def open(self) -> None:
        """Opens the pool; connections are made in the background."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Closes the pool and its connections."""
        await self._pool.close()

    def pool_stats(self) -> dict[str, int]:
        """Figures of the pool, for metrics."""
        return self._pool.get_stats()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode."""
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (PoolTimeout, PoolClosed) as error:
            raise DatabaseUnavailable(
                "the database does not answer; repeat with backoff"
            ) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if isinstance(error, TRANSIENT):
                raise
            raise DatabaseUnavailable(
                "the database does not answer; repeat with backoff"
            ) from error

    async def run_together(self, statements: Sequence[tuple[str, Params]]) -> list[list[Row]]:
        """Runs statements in one transaction, sent without waiting for each other; again after a deadlock."""
        if len(statements) == 1:
            return [await self.run(*statements[0])]
        for tries_left in reversed(range(TRANSIENT_TRIES)):
            try:
                async with self.connection() as connection:
                    async with connection.pipeline(), connection.transaction():
                        cursors = [
                            await send(connection, name, params) for name, params in statements
                        ]
                    return [await fetch(cursor) for cursor in cursors]
            except TRANSIENT:
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    async def run(self, name: str, params: Params | None = None) -> list[Row]:
        """Runs one statement in its own transaction and returns its rows; runs it again after a deadlock."""
        for tries_left in reversed(range(TRANSIENT_TRIES)):
            try:
                async with self.connection() as connection:
                    return await fetch(await send(connection, name, params))
            except TRANSIENT:
                if not tries_left:
                    raise
        raise AssertionError("unreachable")


async def send(
    connection: Connection, name: str, params: Params | None = None
) -> psycopg.AsyncCursor[Row]:
    """Sends one statement; within a pipeline its rows are fetched later."""
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement(name), params)
    return cursor


async def fetch(cursor: psycopg.AsyncCursor[Row]) -> list[Row]:
    """The rows of a statement; none for one that returns nothing."""
    if cursor.description is None:
        return []
    return await cursor.fetchall()
