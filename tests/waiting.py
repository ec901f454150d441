"""Waits for what another task or process brings about: polls a condition until it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    condition: Callable[[], Awaitable[T]], *, within_s: float = 20.0, each_s: float = 0.02
) -> T:
    """The first true value of `condition`. Fails with its last value when none comes in time."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not (value := await condition()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"did not come true within {within_s} s; last value: {value!r}")
        await asyncio.sleep(each_s)
    return value


async def eventually_so(condition: Callable[[], object], *, within_s: float = 20.0) -> None:
    """As `eventually`, for a condition that needs no waiting itself."""

    async def holds() -> bool:
        return bool(condition())

    await eventually(holds, within_s=within_s)
