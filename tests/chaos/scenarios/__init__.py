"""The registry: every module beside this one adds its scenarios.

    @scenario("kill_worker", "kill -9 of a worker", servers=2, workers=3)
    async def kill_worker(arena: Arena) -> None:
        '''What strikes, and what must hold beyond I1 to I9.'''
        async with load(arena, arena.of(300, 3000)) as jobs:
            await jobs.completed(0.3)
            ...

A scenario raises AssertionError (or Stuck) when something that it was to show did not happen. What a
machine cannot inject is skipped with the reason that `needs` returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from tests.chaos.arena import Arena
from tests.chaos.settings import Settings

Play = Callable[[Arena], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """A fault and when it strikes.

    needs: returns why this machine cannot inject it, or "".
    in_short_form: whether it may be drawn for the short form within `make test`.
    catches: the broken variants of tests/broken that it shows up.
    """

    name: str
    title: str
    play: Play
    settings: Settings
    needs: Callable[[], str]
    in_short_form: bool
    catches: tuple[str, ...]


REGISTRY: dict[str, Scenario] = {}


def _nothing() -> str:
    return ""


def scenario(
    name: str,
    title: str,
    *,
    needs: Callable[[], str] = _nothing,
    in_short_form: bool = True,
    catches: tuple[str, ...] = (),
    **settings: Any,
) -> Callable[[Play], Play]:
    """Registers the function below."""

    def register(play: Play) -> Play:
        if name in REGISTRY:
            raise ValueError(f"two scenarios are called {name}")
        made = Scenario(name, title, play, Settings(**settings), needs, in_short_form, catches)
        REGISTRY[name] = made
        return play

    return register


def scenarios() -> dict[str, Scenario]:
    """All scenarios by name."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return dict(sorted(REGISTRY.items()))
