"""The base of every loop: tick, jitter, bounded work, lag.

A tick does a bounded amount of work and says whether there is more; then the next follows at once.
Otherwise the loop rests for its interval, give or take a tenth, so that the loops of a cluster that was
started at once do not beat together. A tick that failed is tried again soon, whatever the interval.

A loop that only has work when the tick of the scheduler finds some (tick.py) then sleeps until it is
wanted, so that a cluster with nothing to do asks the database for little; `idle_s` is its fallback.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from abc import ABC, abstractmethod
from typing import ClassVar

import structlog

from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model.errors import Unavailable
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term

JITTER = 0.1
RETRY_S = 0.25

log = structlog.get_logger("atlasqueue.scheduler")


class Loop(ABC):
    """One time-driven duty of the leader."""

    name: ClassVar[str]
    interval_s: ClassVar[float]
    # How long it waits to be wanted after its interval; 0: it ticks unasked.
    idle_s: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self.ticks = 0
        self.failed_ticks = 0
        self.last_tick_at: float | None = None

    @abstractmethod
    async def tick(self, term: Term) -> bool:
        """Does a bounded amount of work under a term; True when there is more to do at once."""

    @property
    def lag_s(self) -> float:
        """Seconds since the last good tick beyond the interval; 0 while on time or not leading."""
        if self.last_tick_at is None:
            return 0.0
        rest_s = self.interval_s * (1 + JITTER) + self.idle_s
        return max(0.0, time.monotonic() - self.last_tick_at - rest_s)

    def want(self) -> None:
        """There is work: tick as soon as the interval is over."""
        self._wanted.set()

    async def run(self, term: Term) -> None:
        """Ticks for as long as the term is held; ends by cancellation."""
        self.last_tick_at = time.monotonic()
        try:
            while True:
                more = await self._tick_safely(term)
                if more is None:
                    self.failed_ticks += 1
                    await asyncio.sleep(min(RETRY_S, self.interval_s))
                    continue
                self.last_tick_at = time.monotonic()
                self.ticks += 1
                if not more:
                    await self._rest()
        finally:
            self.last_tick_at = None

    async def _rest(self) -> None:
        jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
        await asyncio.sleep(self.interval_s * jitter)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.idle_s):
                await self._wanted.wait()
        self._wanted.clear()

    async def _tick_safely(self, term: Term) -> bool | None:
        """What the tick said; None when it failed."""
        try:
            return await self.tick(term)
        except Unavailable as error:
            log.debug("tick_waits", loop=self.name, error=str(error))
        except Exception:
            # A loop that dies would stop its duty for the whole cluster; the next tick may succeed.
            log.exception("tick_failed", loop=self.name)
        return None


class VerbLoop(Loop):
    """A loop whose verb moves jobs: it counts them, and signals what others wait for."""

    def __init__(
        self, database: Database, signals: Signals, journal: Journal | None = None
    ) -> None:
        super().__init__()
        self._journal = journal or Journal()
        self._database = database
        self._signals = signals
