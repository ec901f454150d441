"""Awa as a contender: a Rust program with its own worker."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.console import say
from benchmarks.harness.runner import run
from benchmarks.peers.contender import HERE, TOOLS, URL_VARIABLE, Live, NotInstallable, flags

VERSION = "0.6.9"


@dataclass
class Awa:
    """github.com/hardbyte/awa; the versions are pinned in Cargo.lock."""

    name: str = "awa"
    # Its view awa.jobs takes minutes over fifty thousand jobs; completions are counted in batches, in
    # rows, and, once their partition was recycled, in a rollup.
    settled_sql: str = (
        "select (select coalesce(sum(completed_count), 0) from awa.receipt_completion_batches)"
        " + (select count(*) from awa.done_entries)"
        " + (select coalesce(sum(pruned_completed_count), 0) from awa.queue_terminal_rollups)"
        " >= %(jobs)s"
    )
    jobs_max: int | None = None
    target: Path = TOOLS / "awa" / "target"

    def install(self) -> None:
        """Builds the runner."""
        if shutil.which("cargo") is None:
            raise NotInstallable("needs Rust with cargo")
        if not (self.target / "release" / "runner").exists():
            say("building awa takes some minutes, once")
        done = subprocess.run(
            [
                "cargo",
                "build",
                "--release",
                "--locked",
                "--quiet",
                "--target-dir",
                str(self.target),
            ],
            cwd=HERE / "awa",
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise NotInstallable(f"cargo build failed: {done.stderr.strip()[-300:]}")

    def facts(self) -> dict[str, Any]:
        """What it runs with."""
        return {
            "version": VERSION,
            "settings": "one Rust process on tokio, pool of 20, its queue storage; max_workers 1024, "
            "one claimer, claim batches of 512, no job deadlines (its short path), poll 50 ms beside "
            "LISTEN; enqueue_params_copy (COPY) with 5000 jobs a call, 2 calls in flight",
            "contract": "workers hold database connections; a completion is guarded by its "
            "run_lease; heartbeats; completions are batched; finished jobs kept for a time in "
            "rotating partitions",
        }

    @contextmanager
    def live(self, database_url: str, log: Path) -> Iterator[Live]:
        """Migrates, and lets a first worker switch the fresh database to queue storage."""
        command = [str(self.target / "release" / "runner")]
        environment = {URL_VARIABLE: database_url}
        run([*command, "--action", "setup"], log, environment=environment)
        yield Live(command, environment=environment)

    def arguments(self, action: str, **options: object) -> list[str]:
        """The runner's flags."""
        return flags({"action": action} | options)
