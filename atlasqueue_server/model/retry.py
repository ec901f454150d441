"""The arithmetic of retries: which policy holds, and how long backoff may last.

Exponential backoff with full jitter, after M. Brooker, "Exponential Backoff And Jitter"
(AWS Architecture Blog, 2015): the delay is drawn evenly from [0, ceiling]. The draw itself is done
by the database, in the statement that moves the job (`atlasqueue.backoff`), so that decision and
move are one; this module is the specification that the tests hold it to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from atlasqueue_server.model import limits


class RetryPolicy(NamedTuple):
    """How failures are retried; None = not set on this level. Delays in milliseconds."""

    max_attempts: int | None = None
    backoff_initial_ms: int | None = None
    backoff_multiplier: float | None = None
    backoff_cap_ms: int | None = None

    def over(self, other: RetryPolicy) -> RetryPolicy:
        """This policy, each unset field taken from `other`."""

        def pick(mine: Any, theirs: Any) -> Any:
            return theirs if mine is None else mine

        return RetryPolicy(
            pick(self.max_attempts, other.max_attempts),
            pick(self.backoff_initial_ms, other.backoff_initial_ms),
            pick(self.backoff_multiplier, other.backoff_multiplier),
            pick(self.backoff_cap_ms, other.backoff_cap_ms),
        )


NO_POLICY = RetryPolicy()
DEFAULT_POLICY = RetryPolicy(
    limits.MAX_ATTEMPTS_DEFAULT,
    limits.BACKOFF_INITIAL_MS_DEFAULT,
    limits.BACKOFF_MULTIPLIER_DEFAULT,
    limits.BACKOFF_CAP_MS_DEFAULT,
)


def backoff_ceiling_ms(policy: RetryPolicy, failures: int) -> float:
    """The longest delay, in ms, before the retry after failure number `failures` (from 1)."""
    whole = policy.over(DEFAULT_POLICY)
    assert whole.backoff_initial_ms is not None
    assert whole.backoff_multiplier is not None
    assert whole.backoff_cap_ms is not None
    # Beyond this exponent every multiplier above 1 has reached any cap; it keeps the power finite.
    exponent = min(failures - 1, 64)
    return min(
        float(whole.backoff_cap_ms), whole.backoff_initial_ms * whole.backoff_multiplier**exponent
    )
