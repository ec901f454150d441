"""A database that answers and takes no writes, as the primary that was demoted, and what the log says of trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from structlog.testing import capture_logs

from atlasqueue import AsyncClient
from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.store.database import Database
from tests.factories import execute
from tests.plugins.server import RunningServer
from tests.waiting import eventually

ReadOnly = Callable[[bool], Awaitable[None]]


@pytest.fixture
async def read_only(migrated_database_url: str, postgres_url: str) -> AsyncIterator[ReadOnly]:
    """Lets the database's next connections write no more, and ends those that may; or only lets the next ones."""
    name = urlsplit(migrated_database_url).path.lstrip("/")
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:

        async def demote(wanted: bool) -> None:
            setting = f"alter database {name} set default_transaction_read_only = {wanted}"
            await admin.execute(setting.encode())
            if wanted:
                await execute(
                    admin,
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %(name)s",
                    name=name,
                )

        yield demote


async def test_a_server_says_that_it_cannot_serve_and_leaves_the_link_that_takes_no_writes(
    server: RunningServer, read_only: ReadOnly
) -> None:
    """How it showed: /readyz said ok while every write failed, and the pool kept links to the standby for an hour."""
    async with (
        httpx.AsyncClient(base_url=server.http_address) as http,
        AsyncClient(server.grpc_address, retry_for=0) as client,
    ):
        await read_only(True)

        async def says_why() -> bool:
            checks = (await http.get("/readyz")).json()["checks"]
            return bool(checks["database"] == "takes no writes: is it a standby?")

        async def unhealthy() -> bool:
            return "atlasqueue_healthy 0.0" in (await http.get("/metrics")).text

        await eventually(says_why)
        await eventually(unhealthy)
        assert (await http.get("/readyz")).status_code == 503

        # No link is cut this time: those that refuse writes are left for ones that take them.
        await read_only(False)

        async def enqueues() -> Any:
            try:
                return await client.enqueue("work", "k")
            except Exception:
                return None

        async def ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await eventually(enqueues)
        await eventually(ready)


async def test_the_log_says_now_and_then_what_is_wrong(database: Database) -> None:
    """How it showed: with a full disk callers got UNAVAILABLE, and the server's log had not a word."""
    full = "do $$ begin raise exception 'no space left' using errcode = '53100', detail = 'a row'; end $$"
    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                async with database.connection() as connection:
                    await connection.execute(full.encode())
    [line] = [line for line in logs if line["event"] == "database_trouble"]
    assert (line["log_level"], line["kind"], line["why"]) == (
        "warning",
        "DiskFull",
        "no space left",
    )
