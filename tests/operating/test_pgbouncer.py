"""A real pgbouncer before PostgreSQL: session mode works, what cannot work is refused with advice."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from atlasqueue import AsyncClient, NewJob
from atlasqueue_server.store.fitness import TransactionPooling
from atlasqueue_server.store.migrations import check_schema, migrate
from atlasqueue_server.store.pooler import pools_transactions, shares_backends
from tests.plugins.pgbouncer import MISSING, PROGRAM, pgbouncer
from tests.plugins.processes import Processes
from tests.plugins.server import ServerFactory
from tests.waiting import eventually

EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
installed = pytest.mark.skipif(PROGRAM is None, reason=MISSING)
APP = "tests.system.apps:app"


def test_what_tells_a_pooler_from_postgresql() -> None:
    a, b, c = (1, EARLY), (2, EARLY), (3, EARLY)
    assert not shares_backends([a, a, a], b)
    assert shares_backends([a, a], a)
    assert shares_backends([a, b], c)
    # A number that a later backend was given again.
    assert not shares_backends([a, a], (1, LATE))


async def test_postgresql_itself_is_no_pooler(any_database_url: str) -> None:
    assert not await pools_transactions(any_database_url)


@installed
@pytest.mark.parametrize("round_robin", [False, True], ids=["lifo", "round robin"])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_modes_that_change_the_backend_are_refused(
    migrated_database_url: str, mode: str, round_robin: bool
) -> None:
    """How it showed: `prepared statement "_pg3_22" already exists` in a traceback."""
    with pgbouncer(migrated_database_url, mode, round_robin=round_robin) as url:
        for act in (check_schema, migrate):
            with pytest.raises(TransactionPooling, match="pool_mode = session"):
                await act(url)


@installed
def test_serve_says_so_in_one_line(migrated_database_url: str) -> None:
    with pgbouncer(migrated_database_url, "transaction") as url:
        process = subprocess.run(
            [sys.executable, "-m", "atlasqueue_server", "serve", "--database-url", url],
            capture_output=True,
            text=True,
        )
    assert process.returncode == 3
    assert process.stderr.startswith("atlasqueue-server: the database is reached through a pooler")
    assert "Traceback" not in process.stderr


@installed
async def test_session_mode_migrates_serves_and_listens(
    database_url: str, start_server: ServerFactory, processes: Processes
) -> None:
    with pgbouncer(database_url, "session") as url:
        await migrate(url)
        first = await start_server(url)
        second = await start_server(url)
        async with AsyncClient(first.grpc_address) as client:
            worker = processes.worker(APP, second.grpc_address, "--queues", "busy")
            await client.enqueue_many([NewJob("busy", "quick") for _ in range(100)])

            async def all_done() -> bool:
                return (await client.queues.depth("busy")).succeeded == 100

            await eventually(all_done, within_s=60)
        assert worker.stop() == 0
        for server in (first, second):
            await server.channel.close()
            await server.application.drain()
            await server.application.stop()
