"""Keeps tasks that must never end: one that raises is logged and begun again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from atlasqueue_server.model.errors import Unavailable

RESTART_S = 0.5
CANCEL_AGAIN_S = 1.0

log = structlog.get_logger("atlasqueue.server")


async def forever(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work` again and again until cancelled, `RESTART_S` after it raised."""
    while True:
        try:
            await work()
        except Unavailable as error:
            log.debug("task_waits", task=name, error=str(error))
        except Exception:
            # Nobody waits for such a task: without this its end would be silent and its duty undone.
            log.exception("task_failed", task=name)
        await asyncio.sleep(RESTART_S)


def start(name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """A task that runs `work` for ever."""
    return asyncio.get_running_loop().create_task(forever(name, work), name=name)


async def stop(*tasks: asyncio.Task[None] | None) -> None:
    """Cancels tasks and waits until they have ended.

    Once is not enough: in Python 3.11 asyncio.wait_for, which the pool waits with, loses a cancellation
    that comes at the moment of its answer.
    """
    pending = {task for task in tasks if task is not None}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
