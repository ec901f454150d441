"""Which queues and kinds get series of their own: the first ones that come. The others share one.

Names come from users, and whoever names each job after its customer would make a series for each of
them, in the server and in Prometheus for as long as it keeps them.
"""

from __future__ import annotations

from typing import Final

QUEUES_MAX: Final = 100
PAIRS_MAX: Final = 300
# No name of a queue or a kind begins with an underscore.
OTHER: Final = "_other"
UNKNOWN: Final = "_unknown"

Pair = tuple[str, str]


class Names:
    """Label values for queues and kinds: at most `QUEUES_MAX` queues and `PAIRS_MAX` pairs, and `_other`."""

    def __init__(self, queues_max: int = QUEUES_MAX, pairs_max: int = PAIRS_MAX) -> None:
        self._queues_max = queues_max
        self._pairs_max = pairs_max
        self._queues: set[str] = set()
        self._pairs: set[Pair] = set()

    def queue(self, queue: str) -> str:
        """The queue, or `_other`."""
        if queue in self._queues:
            return queue
        if len(self._queues) < self._queues_max:
            self._queues.add(queue)
            return queue
        return OTHER

    def pair(self, queue: str, kind: str) -> Pair:
        """(queue, kind), with `_other` for one or both."""
        pair = queue, kind
        if pair in self._pairs:
            return pair
        queue = self.queue(queue)
        if queue is OTHER or kind is UNKNOWN:
            return queue, OTHER if queue is OTHER else UNKNOWN
        if len(self._pairs) < self._pairs_max:
            self._pairs.add(pair)
            return pair
        return queue, OTHER
