"""What `atlasqueue-worker run` says to the collector of cycles."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from atlasqueue_worker.garbage import collect_rarely
collect_rarely()
before = [each["collections"] for each in gc.get_stats()]
kept = [[] for _ in range(20_000)]
assert [each["collections"] for each in gc.get_stats()] == before
assert gc.get_freeze_count() > 1000
"""


def test_a_batch_of_jobs_does_not_set_it_off() -> None:
    """It showed as a tenth of the CPU of a worker, and again in a bench whose worker did not say it."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
