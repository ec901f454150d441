"""Peers that are Python packages: a virtual environment each, under .tools/peers."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.runner import ROOT, run
from benchmarks.peers.contender import HERE, TOOLS, URL_VARIABLE, Live, NotInstallable, flags


@dataclass
class PythonPeer:
    """A peer whose runner is peers/NAME/run.py, with what peers/NAME/requirements.txt pins."""

    name: str
    settled_sql: str
    settings: str
    contract: str
    options: dict[str, object] = field(default_factory=dict)
    least_python: tuple[int, int] = (3, 11)
    jobs_max: int | None = None

    @property
    def _environment(self) -> Path:
        return TOOLS / self.name

    @property
    def _requirements(self) -> Path:
        return HERE / self.name / "requirements.txt"

    def install(self) -> None:
        """Makes the environment, again when the pins have changed."""
        stamp = self._environment / "installed.txt"
        wanted = self._requirements.read_text()
        if stamp.exists() and stamp.read_text() == wanted:
            return
        python = find_python(self.least_python)
        commands = [
            [python, "-m", "venv", "--clear", str(self._environment)],
            [str(self._environment / "bin" / "python"), "-m", "pip", "install", "--quiet",
             "--disable-pip-version-check", "-r", str(self._requirements)],
        ]  # fmt: skip
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
                raise NotInstallable(f"pip install failed: {last[:300]}")
        stamp.write_text(wanted)

    def facts(self) -> dict[str, Any]:
        """What it runs with."""
        first = self._requirements.read_text().splitlines()[0]
        return {
            "version": first.partition("==")[2],
            "settings": self.settings,
            "contract": self.contract,
        }

    @contextmanager
    def live(self, database_url: str, log: Path) -> Iterator[Live]:
        """Makes the schema."""
        python = str(self._environment / "bin" / "python")
        command = [python, str(HERE / self.name / "run.py")]
        environment = {"PYTHONPATH": str(ROOT), URL_VARIABLE: database_url}
        run([*command, "--action", "setup"], log, environment=environment)
        yield Live(command, environment=environment)

    def arguments(self, action: str, **options: object) -> list[str]:
        """The runner's flags."""
        return flags({"action": action} | options | self.options)


def find_python(least: tuple[int, int]) -> str:
    """A Python of at least this version. Raises NotInstallable."""
    names = [sys.executable, *(f"python3.{minor}" for minor in range(15, least[1] - 1, -1))]
    names += sorted(
        glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")), reverse=True
    )
    for name in names:
        try:
            done = subprocess.run(
                [name, "-c", f"import sys; sys.exit(sys.version_info < {least})"],
                capture_output=True,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return name
    raise NotInstallable(f"needs Python {least[0]}.{least[1]} or newer")


PGQUEUER = PythonPeer(
    name="pgqueuer",
    settled_sql="select not exists (select from pgqueuer)",
    settings="one process, asyncpg, uvloop; two queue managers, batch_size 500; enqueue with 5000 "
    "jobs a call, 2 calls in flight",
    contract="workers hold database connections; a job's heartbeat, no fence: a late completion "
    "is not refused; completions are written in batches and nobody waits for them; finished jobs "
    "are deleted and logged",
)
PROCRASTINATE = PythonPeer(
    name="procrastinate",
    settled_sql="select not exists (select from procrastinate_jobs where status in ('todo', 'doing'))",
    settings="one process, psycopg pool of 20, uvloop; concurrency 32; batch_defer with 5000 jobs a "
    "call, 2 calls in flight",
    jobs_max=5_000,
    contract="workers hold database connections; one statement to fetch and one to finish each "
    "job; no fence; stalled jobs are for the user to retry; finished jobs kept",
)
OBAN = PythonPeer(
    name="oban",
    settled_sql="select not exists (select from oban_jobs where state in ('available', 'executing'))",
    settings="Oban for Python, open-source edition, one process, psycopg pool of 10, uvloop; one "
    "queue of limit 200, debounce 1 ms, stager each 20 ms; enqueue_many with 5000 jobs a call, "
    "2 calls in flight",
    contract="workers hold database connections; a completion names the job only, no fence; "
    "orphans are rescued by their producer's heartbeat; finished jobs kept for a day",
    least_python=(3, 12),
    jobs_max=20_000,
)
