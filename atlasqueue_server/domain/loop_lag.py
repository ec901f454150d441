"""How late the event loop runs: whatever blocks it delays every call, lease and heartbeat of the server."""

from __future__ import annotations

import asyncio
import time
from collections import deque

TICK_S = 0.1
WINDOW_S = 15.0


class LoopLag:
    """Sleeps a tenth of a second at a time and notes by how much it woke up too late."""

    def __init__(self) -> None:
        # (when, lag), of late, the lags falling: the first is the worst.
        self._worst: deque[tuple[float, float]] = deque()

    @property
    def worst_s(self) -> float:
        """The worst lag of the last 15 s, seconds."""
        now = time.monotonic()
        return next((lag for at, lag in self._worst.copy() if at > now - WINDOW_S), 0.0)

    async def run(self) -> None:
        """Watches for as long as the server lives."""
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            self.note(time.monotonic(), max(0.0, time.monotonic() - due))

    def note(self, now: float, lag_s: float) -> None:
        """A timer was late by so much."""
        while self._worst and self._worst[-1][1] <= lag_s:
            self._worst.pop()
        self._worst.append((now, lag_s))
        while self._worst[0][0] <= now - WINDOW_S:
            self._worst.popleft()
