"""What ties this server to the others: it says that it lives, and passes signals both ways.

A server that is alone tells nobody, which under load saves up to fifty transactions a second. It hears of others when
they join, or when it next says that it lives.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from atlasqueue_server.domain import supervise
from atlasqueue_server.domain.signals import NOTIFY_INTERVAL_S, Signals
from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import Unavailable
from atlasqueue_server.store import cluster as store
from atlasqueue_server.store.database import Database

FIRST_WORDS_S = 5.0
LAST_WORDS_S = 2.0

log = structlog.get_logger("atlasqueue.links")


class Links:
    """The server's row, its NOTIFYs and its LISTEN connection."""

    def __init__(self, database: Database, signals: Signals, server_id: str) -> None:
        self._database = database
        self._signals = signals
        self._server_id = server_id
        self._address = self._version = ""
        # Whether no other server was seen of late.
        self.alone = False
        # The cluster shows this server.
        self._seen = asyncio.Event()
        signals.joined.append(self._somebody_joined)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, address: str, version: str) -> None:
        """Begins; `address` is what the cluster shows, from when this returns, unless the database is slow."""
        self._address, self._version = address, version
        self._tasks = [
            supervise.start("presence", self._say_alive),
            supervise.start("notify", self._send),
            supervise.start("listen", self._receive),
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WORDS_S):
                await self._seen.wait()

    async def stop(self) -> None:
        """Ends, says what is left to say, and takes the server's row away."""
        await supervise.stop(*self._tasks)
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                while (message := self._signals.take_message(self._server_id)) is not None:
                    await self._tell(message)
                await store.forget_server(self._database, self._server_id)

    async def _say_alive(self) -> None:
        self._signals.server_joined()
        while True:
            self.alone = not await store.record_server(
                self._database,
                self._server_id,
                self._address,
                self._version,
                limits.PRESENT_WITHIN_S,
            )
            self._seen.set()
            await asyncio.sleep(limits.PRESENCE_S)

    def _somebody_joined(self) -> None:
        self.alone = False

    async def _tell(self, message: str) -> None:
        if not self.alone:
            await store.notify(self._database, message)

    async def _send(self) -> None:
        while True:
            message = await self._signals.next_message(self._server_id)
            # A signal that cannot be sent is dropped: the poll finds what it would have told.
            with contextlib.suppress(Unavailable):
                await self._tell(message)
            await asyncio.sleep(NOTIFY_INTERVAL_S)

    async def _receive(self) -> None:
        async with store.listening(self._database.url) as messages:
            async for message in messages:
                try:
                    self._signals.receive(message, self._server_id)
                except (ValueError, KeyError, AttributeError, TypeError):
                    log.warning("strange_message")
