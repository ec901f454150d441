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

    def reset_if_lived(self, seconds: float) -> None:
        """Begins anew after what opened and lasted so long, if that was as long as the longest delay.

        Who opens streams and ends them at once would else be asked 20 times a second.
        """
        if seconds >= self.longest:
            self.reset()

    def reset(self) -> None:
        """Begins anew after a success."""
        self._tries = 0
