"""The collector of cycles, for a process that runs nothing but a worker."""

from __future__ import annotations

import gc

# New objects before the youngest are looked through; Python's own 700 is less than one batch of jobs.
YOUNG = 50_000


def collect_rarely() -> None:
    """Call it once, when everything is imported. `atlasqueue-worker run` does.

    Jobs come by the hundred and form no cycles: with the default threshold the collector walks them over and
    over, and whatever else lives as long as they do, such as spans that wait for their export.
    """
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
