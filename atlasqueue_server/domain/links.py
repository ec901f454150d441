"""What ties this server to the others: it says that it lives, and passes signals both ways."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from atlasqueue_server.domain.signals import NOTIFY_INTERVAL_S, Signals
from atlasqueue_server.model.errors import Unavailable
from atlasqueue_server.store import cluster as store
from atlasqueue_server.store.database import Database

PRESENCE_S = 5.0
RECONNECT_S = 1.0

log = structlog.get_logger("atlasqueue.links")


class Links:
    """The server's row, its NOTIFYs and its LISTEN connection."""

    def __init__(self, database: Database, signals: Signals, server_id: str) -> None:
        self._database = database
        self._signals = signals
        self._server_id = server_id
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, address: str, version: str) -> None:
        """Begins; `address` is what the cluster shows."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._say_alive(address, version), name="presence"),
            loop.create_task(self._send(), name="notify"),
            loop.create_task(self._receive(), name="listen"),
        ]

    async def stop(self) -> None:
        """Ends, and takes the server's row away."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Unavailable):
            await store.forget_servers(self._database, self._server_id)

    async def _say_alive(self, address: str, version: str) -> None:
        while True:
            with contextlib.suppress(Unavailable):
                await store.record_server(self._database, self._server_id, address, version)
            await asyncio.sleep(PRESENCE_S)

    async def _send(self) -> None:
        while True:
            message = await self._signals.next_message(self._server_id)
            # A signal that cannot be sent is dropped: the poll finds what it would have told.
            with contextlib.suppress(Unavailable):
                await store.notify(self._database, message)
            await asyncio.sleep(NOTIFY_INTERVAL_S)

    async def _receive(self) -> None:
        while True:
            try:
                async with store.listening(self._database.url) as messages:
                    async for message in messages:
                        self._signals.receive(message, self._server_id)
            except Unavailable:
                log.debug("listen_lost")
            except (ValueError, KeyError, AttributeError):
                log.warning("strange_message")
            await asyncio.sleep(RECONNECT_S)
