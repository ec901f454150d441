"""The write timeout of all streams of a server, by one timer.

asyncio.timeout makes a timer for each write and takes it back, which for a ping costs as much as the ping.
All writes have the same time and stand in the order in which they began, so the first is due first:

    within ──▶ writes ──▶ the timer looks at the first: cuts it, or comes again when it is due
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


class WriteWatch:
    """Cuts writes that take longer than `timeout_s`. Belongs to one event loop."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._writes: dict[asyncio.Task[object], float] = {}
        self._cut: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, write: Awaitable[object]) -> None:
        """Waits for a write. Raises TimeoutError when it takes too long."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        self._writes[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self.timeout_s, self._look)
        cancelled_before = task.cancelling()
        try:
            await write
        except asyncio.CancelledError as error:
            if task in self._cut and task.uncancel() <= cancelled_before:
                raise TimeoutError from error
            raise
        finally:
            self._writes.pop(task, None)
            self._cut.discard(task)

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        for task, began in list(self._writes.items()):
            left_s = began + self.timeout_s - loop.time()
            if left_s > 0:
                self._timer = loop.call_later(left_s, self._look)
                return
            del self._writes[task]
            self._cut.add(task)
            task.cancel()
