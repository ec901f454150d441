"""How long the SDK waits before it calls again: exponential backoff with full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Delays in seconds, each drawn from [0, ceiling], the ceiling doubling up to `longest`."""

    first: float = 0.1
    longest: float = 5.0
    uniform: Callable[[float, float], float] = random.uniform
    _tries: int = field(default=0, init=False)

    def next_delay(self) -> float:
        """The next delay."""
        ceiling = min(self.longest, self.first * 2 ** min(self._tries, 30))
        self._tries += 1
        return self.uniform(0, ceiling)

    def reset(self) -> None:
        """Begins anew after a success."""
        self._tries = 0
