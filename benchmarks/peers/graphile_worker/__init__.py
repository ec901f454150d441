"""Graphile Worker as a contender: a Node.js program."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.runner import run
from benchmarks.peers.contender import HERE, TOOLS, URL_VARIABLE, Live, NotInstallable, flags

SOURCES = ("package.json", "package-lock.json", "run.mjs")
LEAST_NODE = 22


@dataclass
class GraphileWorker:
    """graphile-worker; pinned in package-lock.json, Node.js too where the system's is too old."""

    threads: int = 1
    name: str = "graphile_worker"
    settled_sql: str = "select not exists (select from graphile_worker._private_jobs)"
    jobs_max: int | None = None
    directory: Path = TOOLS / "graphile_worker"

    def install(self) -> None:
        """Copies the program to where its modules are, and installs them."""
        npm = shutil.which("npm")
        if npm is None:
            raise NotInstallable("needs Node.js with npm")
        self.directory.mkdir(parents=True, exist_ok=True)
        lock = self.directory / "package-lock.json"
        current = lock.exists() and lock.read_text() == (_source("package-lock.json")).read_text()
        for name in SOURCES:
            shutil.copy(_source(name), self.directory / name)
        if current and (self.directory / "node_modules" / "graphile-worker").exists():
            return
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=self.directory,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            lock.unlink(missing_ok=True)
            raise NotInstallable(f"npm ci failed: {done.stderr.strip()[-300:]}")

    @property
    def node(self) -> str:
        """The system's Node.js when it is new enough, else the one that npm has installed."""
        found = shutil.which("node")
        if found is not None and _major(found) >= LEAST_NODE:
            return found
        for bundled in self.directory.glob("node_modules/node-linux-*/bin/node"):
            return str(bundled)
        raise NotInstallable(f"needs Node.js {LEAST_NODE} or newer")

    def facts(self) -> dict[str, Any]:
        """What it runs with."""
        pinned = json.loads(_source("package.json").read_text())["dependencies"]
        return {
            "version": pinned["graphile-worker"],
            "settings": f"Node.js {_version(self.node)}, {self.threads} thread(s) of 24 concurrent "
            "jobs, local queue of 500, completions batched without delay, as on its own "
            "performance page; addJobs with 5000 jobs a call, 2 calls in flight",
            "contract": "workers hold database connections; no fence; completions are batched and "
            "nobody waits for them; no heartbeat: a dead worker's job is free again after 4 hours; "
            "finished jobs are deleted, no history",
        }

    @contextmanager
    def live(self, database_url: str, log: Path) -> Iterator[Live]:
        """Migrates."""
        command = [self.node, str(self.directory / "run.mjs")]
        environment = {URL_VARIABLE: database_url}
        run([*command, "--action", "setup"], log, environment=environment)
        yield Live(command, environment=environment)

    def arguments(self, action: str, **options: object) -> list[str]:
        """The runner's flags."""
        threads = 1 if options.get("latency") else self.threads
        return flags({"action": action} | options | {"threads": threads})


def _source(name: str) -> Path:
    return HERE / "graphile_worker" / name


def _version(node: str) -> str:
    done = subprocess.run([node, "--version"], capture_output=True, text=True)
    return done.stdout.strip().removeprefix("v")


def _major(node: str) -> int:
    match = re.match(r"\d+", _version(node))
    return int(match[0]) if match else 0
