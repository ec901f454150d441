"""One server a PostgreSQL version for all walks: every pair has a queue of its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import psycopg
import pytest
import pytest_asyncio

from atlasqueue_server.app import Application
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term
from tests.factories import Factory, execute, take_term_by_force
from tests.plugins.postgres import Templates, create_database, drop_database
from tests.plugins.server import RunningServer, config_for


@dataclass
class Bench:
    """A server that never leads, a term to tick with, and a connection that looks on."""

    server: RunningServer
    connection: Any
    term: Term
    queue: str = field(default_factory=lambda: f"q-{uuid.uuid4().hex[:12]}")

    @property
    def database(self) -> Database:
        """The server's own pool."""
        return self.server.application.database

    @property
    def factory(self) -> Factory:
        """Makes jobs of the bench's queue."""
        return Factory(self.database, self.queue)

    async def sql(self, statement: str, **params: Any) -> list[tuple[Any, ...]]:
        """Runs a plain statement."""
        return await execute(self.connection, statement, **params)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def shared_bench(any_postgres_url: str, migrated_template: Templates) -> AsyncIterator[Bench]:
    """The server of all walks."""
    url = create_database(any_postgres_url, migrated_template(any_postgres_url))
    application = Application(config_for(url))
    await application.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{application.grpc_port}")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        term = await take_term_by_force(url)
        yield Bench(RunningServer(application, channel), connection, term)
    await channel.close()
    await application.drain()
    await application.stop()
    drop_database(any_postgres_url, url)


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    """The server with a queue for this test alone."""
    return Bench(shared_bench.server, shared_bench.connection, shared_bench.term)
