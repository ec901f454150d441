"""The pool of connections."""

from __future__ import annotations

import asyncio

import pytest

from tests.factories import open_database


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
