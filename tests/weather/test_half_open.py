"""Links that carry nothing and tell nobody, and a database that takes no connections."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

import grpc
import psycopg
import pytest

from atlasqueue import AsyncClient, DatabaseUnavailable
from atlasqueue.channel import open_aio_channel
from atlasqueue_server.model.errors import DatabaseUnavailable as DatabaseAway
from atlasqueue_server.model.errors import Overloaded
from atlasqueue_server.store.database import Database
from atlasqueue_worker import App, JobContext, Worker
from tests.factories import execute
from tests.plugins.postgres import with_database
from tests.plugins.server import RunningServer, ServerFactory
from tests.waiting import eventually
from tests.weather.proxy import Proxy
from tests.weather.workers import BareStream

# The promise is 15 s; the rest is for a machine that other tests load.
NOTICED_WITHIN_S = 15.0 + 10.0


@pytest.mark.long
async def test_both_ends_of_a_half_open_stream_notice(
    migrated_database_url: str, start_server: ServerFactory
) -> None:
    # Pings so rare that only the transport can tell.
    server = await start_server(migrated_database_url, ping_interval_seconds=60)
    sessions = server.application.dispatcher.sessions
    async with Proxy("127.0.0.1", server.application.grpc_port) as proxy:
        channel = open_aio_channel(proxy.address)
        stream = await BareStream(RunningServer(server.application, channel), ["q"], 1).opened()
        assert len(list(sessions)) == 1
        proxy.freeze()

        async def the_server_noticed() -> bool:
            return not list(sessions)

        async def the_client_noticed() -> grpc.StatusCode:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                while True:
                    await stream.call.read()
            return error.value.code()

        async with asyncio.timeout(NOTICED_WITHIN_S):
            code, _ = await asyncio.gather(
                the_client_noticed(), eventually(the_server_noticed, within_s=NOTICED_WITHIN_S)
            )
        assert code is grpc.StatusCode.UNAVAILABLE
        await channel.close()


async def test_a_worker_leaves_a_silent_server_and_keeps_its_jobs(
    migrated_database_url: str, start_server: ServerFactory
) -> None:
    """Frozen in the middle of a job: stream and heartbeats go on with the other server."""
    silent, other = [
        await start_server(migrated_database_url, ping_interval_seconds=1) for _ in range(2)
    ]
    running: list[JobContext] = []
    finish = asyncio.Event()
    app = App()

    @app.job("long", queue="work")
    async def long(job: JobContext) -> str:
        running.append(job)
        await finish.wait()
        return "done"

    async with (
        Proxy("127.0.0.1", silent.application.grpc_port) as proxy,
        AsyncClient(other.grpc_address) as client,
    ):
        worker = Worker(app, [proxy.address, other.grpc_address], grace=0)
        work = asyncio.create_task(worker.run())
        job_id = await client.enqueue("work", "long")

        async def runs() -> bool:
            return bool(running) and worker.healthy

        await eventually(runs)
        proxy.freeze()

        async def unhealthy() -> bool:
            return not worker.healthy

        await eventually(unhealthy, within_s=NOTICED_WITHIN_S)

        async def elsewhere() -> bool:
            return worker.healthy and bool(list(other.application.dispatcher.sessions))

        await eventually(elsewhere, within_s=NOTICED_WITHIN_S)
        assert not running[0].cancelled
        finish.set()
        done = await client.wait(job_id, timeout=30)
        assert (done.result, done.deliveries, done.crashes) == (b"done", 1, 0)
        worker.stop()
        await work


async def test_a_half_open_database_link_is_hung_up_on(
    migrated_database_url: str, start_server: ServerFactory
) -> None:
    """It showed as calls that never ended: TCP itself saw nothing wrong with the proxy's end."""
    parts = urlsplit(migrated_database_url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with Proxy(parts.hostname, parts.port) as proxy:
        netloc = parts.netloc.replace(f":{parts.port}", f":{proxy.port}")
        server = await start_server(parts._replace(netloc=netloc).geturl())
        async with AsyncClient(server.grpc_address, retry_for=60) as client:
            await client.enqueue("work", "k")
            proxy.freeze()
            frozen_at = time.monotonic()
            await client.enqueue("work", "k")
            assert time.monotonic() - frozen_at < NOTICED_WITHIN_S

            async def leads_again() -> bool:
                return server.application.leader.leading

            await eventually(leads_again)
            assert (await client.queues.depth("work")).ready == 2


async def test_a_server_without_connections_says_so_and_recovers(
    migrated_database_url: str, postgres_url: str, start_server: ServerFactory
) -> None:
    name = urlsplit(migrated_database_url).path.lstrip("/")
    server = await start_server(migrated_database_url)
    admin_url = with_database(postgres_url, "template1")
    async with (
        await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as admin,
        AsyncClient(server.grpc_address, retry_for=0) as client,
    ):
        await client.enqueue("work", "k")
        await admin.execute(f"alter database {name} allow_connections false".encode())
        try:
            await execute(
                admin,
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %(name)s",
                name=name,
            )

            async def refused() -> bool:
                try:
                    await client.enqueue("work", "k")
                except DatabaseUnavailable:
                    return True
                return False

            for _ in range(3):
                await eventually(refused)
        finally:
            await admin.execute(f"alter database {name} allow_connections true".encode())

        async def answers() -> bool:
            try:
                await client.enqueue("work", "k")
            except DatabaseUnavailable:
                return False
            return True

        await eventually(answers)


WEATHER = {
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53300": "too_many_connections",
    "57014": "query_canceled",
    "57P01": "admin_shutdown",
    "57P02": "crash_shutdown",
    "57P03": "cannot_connect_now",
    "58030": "io_error",
    "55P03": "lock_not_available",
    "25006": "read_only_sql_transaction",
    "25P03": "idle_in_transaction_session_timeout",
    "08006": "connection_failure",
}


@pytest.mark.parametrize("state", sorted(WEATHER), ids=WEATHER.get)
async def test_weather_in_the_database_is_unavailable(database: Database, state: str) -> None:
    with pytest.raises(DatabaseAway):
        await _raise(database, state)


@pytest.mark.parametrize("state", ["40P01", "40001"])
async def test_contention_is_overloaded(database: Database, state: str) -> None:
    """It showed as INTERNAL, once the tries were used up."""
    with pytest.raises(Overloaded):
        await _raise(database, state)


async def _raise(database: Database, state: str) -> None:
    text = f"do $$ begin raise exception using errcode = '{state}'; end $$"
    async with database.connection() as connection:
        await connection.execute(text.encode())


async def test_supervised_tasks_begin_again() -> None:
    from atlasqueue_server.domain import supervise

    begun: list[Any] = []
    again = asyncio.Event()

    async def work() -> None:
        begun.append(1)
        if len(begun) == 1:
            raise ValueError("of all things")
        again.set()
        await asyncio.Event().wait()

    task = supervise.start("trial", work)
    async with asyncio.timeout(10):
        await again.wait()
    await supervise.stop(task)
    assert task.cancelled()
