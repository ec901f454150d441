"""The pool of connections."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.factories import execute, open_database


@pytest.mark.parametrize("turns", range(16))
async def test_a_cancellation_is_not_swallowed_while_a_connection_is_handed_over(
    turns: int, database_url: str
) -> None:
    # Showed as a server that hung for ever in drain: the promote loop had been cancelled at the very
    # moment in which it got a connection, and ticked on.
    async with open_database(database_url, connections_min=1, connections_max=1) as database:
        released = asyncio.Event()

        async def hold() -> None:
            async with database.connection():
                holding.set()
                await released.wait()

        async def use() -> None:
            async with database.connection():
                await asyncio.Event().wait()

        holding = asyncio.Event()
        holder = asyncio.create_task(hold())
        await holding.wait()
        user = asyncio.create_task(use())
        await asyncio.sleep(0.01)
        released.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        user.cancel()
        done, _ = await asyncio.wait({user}, timeout=5)
        await holder
        user.cancel()
        assert done
        assert user.cancelled()


async def test_an_idle_connection_is_kept_whatever_the_database_says(database_url: str) -> None:
    """With idle_session_timeout set for the database, each link that had rested failed the next call: UNAVAILABLE."""
    name = conninfo_to_dict(database_url)["dbname"]
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as operator:
        await execute(operator, f"alter database {name} set idle_session_timeout = '50ms'")
    async with open_database(database_url, connections_min=1, connections_max=1) as database:
        async with database.connection() as connection:
            cursor = await connection.execute("show idle_session_timeout")
            assert await cursor.fetchone() == ("0",)
