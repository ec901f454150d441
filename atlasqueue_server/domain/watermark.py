"""Where in a queue's order a lease may start to look.

Leased rows leave dead index entries behind, and while some transaction pins xmin nothing removes them:
without a floor every lease would walk them all again. So a lease asks for seq above a watermark, the
highest seq leased 250 ms ago: commits that race for a moment are never stepped over. What commits later
than that is found by a sweep, once a second:

    seq ──┬── rotating window ≥ 100 000 ──┬─────────────┬── sweep: last 10 s ──┬── lease ──▶
          0                                             floor 10 s ago         floor 250 ms ago

What a window costs is its dead entries, not its length. So it grows while looks are cheap, and shrinks
after a dear one: where vacuum keeps up, a turn over a history of any length takes seconds.
The watermark is a hint that lags; nothing depends on it but speed.
"""

from __future__ import annotations

from collections import deque

LAG_S = 0.25
SWEEP_S = 10.0
WINDOW_SEQS = 100_000
GROWTH = 4
CHEAP_S = 0.05


class Watermark:
    """The watermark of one priority of one queue. Times are monotonic seconds, passed in."""

    def __init__(self) -> None:
        self._history: deque[tuple[float, int]] = deque()
        self._newest_began = 0.0
        self._highest = 0
        self._old = 0
        self._window = 0
        self._window_seqs = WINDOW_SEQS

    def record(self, now: float, seq: int) -> None:
        """A lease took `seq` at `now`."""
        if seq > self._highest:
            self._highest = seq
            if self._history and now - self._newest_began < LAG_S / 5:
                # Keep the later time, so that the entry never counts as older than it is.
                self._history[-1] = (now, seq)
            else:
                self._newest_began = now
                self._history.append((now, seq))

    def floor(self, now: float) -> int:
        """A lease looks above this."""
        floor = self._old
        for time, seq in self._history:
            if time > now - LAG_S:
                break
            floor = seq
        return floor

    def sweep_floor(self, now: float) -> int:
        """A sweep looks above this; forgets what no one will ask for again."""
        while self._history and self._history[0][0] <= now - SWEEP_S:
            self._old = self._history.popleft()[1]
        return self._old

    def next_window(self, now: float) -> tuple[int, int] | None:
        """The next (floor, ceiling] below the sweep, in rotation; None while there is none."""
        end = self.sweep_floor(now)
        if not end:
            return None
        if self._window >= end:
            self._window = 0
        start = self._window
        self._window = min(start + self._window_seqs, end)
        return start, self._window

    def window_took(self, seconds: float) -> None:
        """The statement that looked into the last window took so long."""
        factor = GROWTH if seconds < CHEAP_S else 1 / GROWTH
        self._window_seqs = max(WINDOW_SEQS, min(int(self._window_seqs * factor), self._old))
