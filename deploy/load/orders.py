"""What the load consists of; pure, so that the same seed makes the same jobs."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import timedelta

from atlasqueue import NewJob, RetryPolicy

# Queue and kind, and the mean run time in milliseconds.
KINDS = (("mail", "send-mail", 20.0), ("media", "resize", 80.0))
QUICK_RETRY = RetryPolicy(max_attempts=3, initial_backoff=timedelta(milliseconds=500))


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of jobs that fail once and that die, each from 0 to 1; the others succeed at once."""

    retry: float = 0.05
    die: float = 0.002

    def __post_init__(self) -> None:
        if min(self.retry, self.die) < 0 or self.retry + self.die > 1:
            raise ValueError("retry and die must not be negative, and their sum at most 1")


def order(chance: random.Random, mix: Mix) -> NewJob:
    """One job, of any kind, that will end as `mix` says."""
    queue, kind, mean = chance.choice(KINDS)
    drawn = chance.random()
    outcome = "die" if drawn < mix.die else "retry" if drawn < mix.die + mix.retry else "succeed"
    payload = {"outcome": outcome, "milliseconds": round(chance.expovariate(1 / mean), 1)}
    return NewJob(queue, kind, json.dumps(payload).encode(), retry_policy=QUICK_RETRY)
