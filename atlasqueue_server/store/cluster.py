"""Servers of the cluster, and the channel between them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import NamedTuple

import psycopg

from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.store.database import (
    Connection,
    Database,
    connect,
    fetch,
    hung_up_after,
    send,
)
from atlasqueue_server.store.statements import statement

CHANNEL = "atlasqueue"
# A LISTEN connection that has been silent for so long is asked, and has so long to answer.
LISTEN_SILENCE_S = 5.0
LISTEN_ANSWER_S = 5.0


class ServerRow(NamedTuple):
    """A server beside the leader's row; server_id is None when no server was seen."""

    server_id: str | None
    address: str
    version: str
    started_at: datetime
    seen_at: datetime
    leader: str | None
    term: int | None
    leader_time_left_s: float | None


async def ping(database: Database) -> bool:
    """Whether the database, which answers, takes writes. Raises DatabaseUnavailable."""
    takes_writes: bool = (await database.run("ping"))[0][0]
    database.read_only = not takes_writes
    return takes_writes


async def record_server(
    database: Database, server_id: str, address: str, version: str, present_within_s: float
) -> bool:
    """This server lives; whether others were seen within so many seconds. Its clock is compared with the
    database's on the way."""
    params: dict[str, object] = {
        "server_id": server_id,
        "address": address,
        "version": version,
        "present_within_s": present_within_s,
    }
    async with database.connection() as connection:
        # Only now: waiting for a connection is no fault of the clock.
        params["clock_s"] = time.time()
        [(others,)] = await fetch(await send(connection, "record_server", params))
    return bool(others)


async def forget_server(database: Database, server_id: str) -> None:
    """This server stops."""
    await database.run("forget_server", {"server_id": server_id})


async def get_cluster(database: Database, seen_within_s: float) -> list[ServerRow]:
    """The servers seen of late, each beside the leader's row."""
    rows = await database.run("get_cluster", {"seen_within_s": seen_within_s})
    return [ServerRow._make(row) for row in rows]


async def notify(database: Database, message: str) -> None:
    """Wakes the other servers, in a transaction of its own."""
    await database.run("notify", {"channel": CHANNEL, "message": message})


@asynccontextmanager
async def listening(database_url: str) -> AsyncIterator[AsyncIterator[str]]:
    """Messages of the channel, on a connection of its own. Raises DatabaseUnavailable when it breaks."""
    try:
        connection = await connect(database_url, "atlasqueue-listen")
        try:
            with hung_up_after(connection, LISTEN_ANSWER_S):
                await connection.execute(statement("listen"))
            yield _messages(connection)
        finally:
            await connection.close()
    except psycopg.Error as error:
        raise DatabaseUnavailable("the LISTEN connection is lost") from error


async def _messages(connection: Connection) -> AsyncIterator[str]:
    while True:
        async for notification in connection.notifies(timeout=LISTEN_SILENCE_S):
            yield notification.payload
        # Silence may be peace or a dead link; only an answer tells.
        with hung_up_after(connection, LISTEN_ANSWER_S):
            await connection.execute(statement("ping"))
