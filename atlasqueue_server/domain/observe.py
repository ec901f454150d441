"""The database for /metrics: read when somebody asks and the last reading is old, by one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from atlasqueue_server.model.errors import Unavailable
from atlasqueue_server.store import observe as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.observe import Reading

FRESH_S = 5.0
# A scrape does not wait longer for it, and shows the last one.
WAIT_S = 2.0
# An older reading says nothing any more.
KEPT_S = 60.0

log = structlog.get_logger("atlasqueue.metrics")


class Observer:
    """The last reading of the database."""

    def __init__(self, database: Database, fresh_s: float = FRESH_S) -> None:
        self.failed = 0
        self.took_s = 0.0
        self._database = database
        self._fresh_s = fresh_s
        self._read_at = float("-inf")
        self._reading: Reading | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the last reading; infinite before the first."""
        return time.monotonic() - self._read_at

    @property
    def reading(self) -> Reading | None:
        """The last reading, unless it is too old to mean anything."""
        return self._reading if self.age_s < KEPT_S else None

    async def refresh(self) -> None:
        """Reads anew when the last reading is not fresh; waits a moment for that. Raises nothing."""
        if self.age_s < self._fresh_s:
            return
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._read(), name="observe")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                await asyncio.shield(self._running)

    async def _read(self) -> None:
        began = time.monotonic()
        try:
            self._reading = await store.observe(self._database)
        except Unavailable as error:
            self.failed += 1
            log.debug("observation_failed", error=str(error))
            return
        except Exception:
            self.failed += 1
            log.exception("observation_failed")
            return
        self._read_at = time.monotonic()
        self.took_s = self._read_at - began

    async def close(self) -> None:
        """Ends a reading that is under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
