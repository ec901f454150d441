"""What a stretch of work cost: time, WAL, commits, and the CPU of everybody who took part."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.harness import procfs
from benchmarks.harness.postgres import Postgres

# One statement, so that the three belong to one moment. The next transaction id tells how many
# transactions have written: those are the ones that wait for the disk, and unlike the counters of
# pg_stat_database the id does not lag by up to ten seconds.
_COUNTERS = """
select
    pg_current_wal_insert_lsn() - '0/0'::pg_lsn,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment."""

    at: float
    wal_bytes: int
    write_commits: int
    cpu: Mapping[str, float]


class Meter:
    """Reads the counters before and after.

    Args:
        postgres: the server; its CPU is `postgres` when it runs on this machine.
        processes: who else is measured, process ids by role ("server", "worker", "producer").
    """

    def __init__(self, postgres: Postgres, processes: Mapping[str, Sequence[int]]) -> None:
        self._postgres = postgres
        self._processes = dict(processes)
        if postgres.postmaster is not None:
            self._processes["postgres"] = [postgres.postmaster]
        self._before: Reading | None = None

    @property
    def before(self) -> Reading:
        """What `start` has read. Raises RuntimeError before it."""
        if self._before is None:
            raise RuntimeError("start() comes first")
        return self._before

    def read(self) -> Reading:
        """The counters now."""
        row = self._postgres.connection.execute(_COUNTERS).fetchone()
        assert row is not None
        cpu = {role: procfs.cpu_seconds(pids) for role, pids in self._processes.items()}
        return Reading(time.monotonic(), int(row[0]), int(row[1]), cpu)

    def start(self) -> None:
        """Begins a stretch."""
        self._before = self.read()

    def stop(self, jobs: int, *, seconds: float | None = None) -> dict[str, float]:
        """Metrics of the stretch since `start`, per job and per second.

        `seconds` replaces the harness's own time where a runner has measured a better one.
        """
        return cost(self.before, self.read(), jobs, seconds)


def cost(
    before: Reading, after: Reading, jobs: int, seconds: float | None = None
) -> dict[str, float]:
    """What lies between two readings."""
    elapsed = seconds or after.at - before.at
    metrics = {
        "jobs": float(jobs),
        "seconds": elapsed,
        "jobs_per_s": jobs / elapsed,
        "wal_bytes_per_job": (after.wal_bytes - before.wal_bytes) / jobs,
        "write_commits_per_job": (after.write_commits - before.write_commits) / jobs,
    }
    for role, used in after.cpu.items():
        metrics[f"{role}_cpu_us_per_job"] = (used - before.cpu[role]) / jobs * 1e6
    return metrics
