"""The base of every loop: tick, jitter, bounded work, lag.

A tick does a bounded amount of work and says whether there is more; then the next follows at once.
Otherwise the loop rests for its interval, give or take a tenth, so that the loops of a cluster that was
started at once do not beat together.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from typing import ClassVar

import structlog

from atlasqueue_server.model.errors import Unavailable
from atlasqueue_server.store.scheduler import Term

JITTER = 0.1
RETRY_S = 0.5

log = structlog.get_logger("atlasqueue.scheduler")


class Loop(ABC):
    """One time-driven duty of the leader."""

    name: ClassVar[str]
    interval_s: ClassVar[float]

    def __init__(self) -> None:
        self.ticks = 0
        self.last_tick_at: float | None = None

    @abstractmethod
    async def tick(self, term: Term) -> bool:
        """Does a bounded amount of work under a term; True when there is more to do at once."""

    @property
    def lag_s(self) -> float:
        """Seconds since the last tick beyond the interval; 0 while on time or not leading."""
        if self.last_tick_at is None:
            return 0.0
        late = asyncio.get_running_loop().time() - self.last_tick_at - self.interval_s
        return max(0.0, late)

    async def run(self, term: Term) -> None:
        """Ticks for as long as the term is held; ends by cancellation."""
        try:
            while True:
                more = await self._tick_safely(term)
                self.last_tick_at = asyncio.get_running_loop().time()
                self.ticks += 1
                if not more:
                    jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
                    await asyncio.sleep(self.interval_s * jitter)
        finally:
            self.last_tick_at = None

    async def _tick_safely(self, term: Term) -> bool:
        try:
            return await self.tick(term)
        except Unavailable:
            await asyncio.sleep(RETRY_S)
        except Exception:
            # A loop that dies would stop its duty for the whole cluster; the next tick may succeed.
            log.exception("tick_failed", loop=self.name)
            await asyncio.sleep(RETRY_S)
        return False
