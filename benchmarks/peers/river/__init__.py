"""River as a contender: a Go program with River's client and pgx."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.runner import run
from benchmarks.peers.contender import HERE, TOOLS, URL_VARIABLE, Live, NotInstallable, flags

VERSION = "0.51.2"


@dataclass
class River:
    """github.com/riverqueue/river; the version is pinned in go.mod."""

    name: str = "river"
    settled_sql: str = (
        "select not exists (select from river_job where state in ('available', 'running'))"
    )
    jobs_max: int | None = None
    program: Path = TOOLS / "river" / "runner"

    def install(self) -> None:
        """Builds the runner."""
        if shutil.which("go") is None:
            raise NotInstallable("needs Go")
        done = subprocess.run(
            ["go", "build", "-o", str(self.program), "."],
            cwd=HERE / "river",
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise NotInstallable(f"go build failed: {done.stderr.strip()[-300:]}")

    def facts(self) -> dict[str, Any]:
        """What it runs with."""
        return {
            "version": VERSION,
            "settings": "one Go process, pgx pool; MaxWorkers 2000, FetchCooldown 2 ms (latency: "
            "1 ms), FetchPollInterval 20 ms as in its own `river bench`; batched completer; "
            "InsertManyFast (COPY) with 5000 jobs a call, 2 calls in flight",
            "contract": "workers hold database connections; a completion is guarded by the job's "
            "state, not by a fence; the handler's outcome is committed up to a batch later, and "
            "nobody waits for it; no lease: a dead worker's job is rescued after an hour; finished "
            "jobs kept",
        }

    @contextmanager
    def live(self, database_url: str, log: Path) -> Iterator[Live]:
        """Migrates."""
        environment = {URL_VARIABLE: database_url}
        run([str(self.program), "--action", "setup"], log, environment=environment)
        yield Live([str(self.program)], environment=environment)

    def arguments(self, action: str, **options: object) -> list[str]:
        """The runner's flags."""
        return flags({"action": action} | options)
