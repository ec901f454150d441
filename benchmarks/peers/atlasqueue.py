"""AtlasQueue as a contender: a server process, producers and workers on the Python SDK."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import machine
from benchmarks.harness.server import migrate, serving
from benchmarks.peers.contender import Live, flags


@dataclass
class AtlasQueue:
    """The base that all peers are compared with."""

    slots: int = 1024
    workers: int = 1
    in_flight: int = 4
    server_arguments: str = ""
    name: str = "atlasqueue"
    settled_sql: str = (
        "select not exists (select from atlasqueue.ready)"
        " and not exists (select from atlasqueue.leased)"
    )

    jobs_max: int | None = None

    def install(self) -> None:
        """Nothing to do: it is this repository."""

    def facts(self) -> dict[str, Any]:
        """What it runs with."""
        return {
            "version": machine.versions()["atlasqueue"],
            "settings": f"one server process{' ' + self.server_arguments if self.server_arguments else ''}, "
            f"{self.workers} worker process(es) of {self.slots} slots, enqueue_many with "
            f"{self.in_flight} calls in flight",
            "contract": "over gRPC; fenced leases, an answer for each outcome after its commit, "
            "finished jobs kept",
        }

    @contextmanager
    def live(self, database_url: str, log: Path) -> Iterator[Live]:
        """Migrates and starts a server."""
        migrate(database_url)
        with serving(database_url, log, self.server_arguments) as server:
            yield Live(
                [sys.executable, "-m"],
                {"server": [server.pid]},
                {"ATLASQUEUE_ADDRESS": server.address},
            )

    def arguments(self, action: str, **options: object) -> list[str]:
        """The runner of an action, in benchmarks/load."""
        if action == "work":
            own = {"slots": self.slots, "workers": self.workers}
            return ["benchmarks.load.work", *flags(options | own)]
        way = "bulk" if action == "enqueue" else "paced"
        return [
            "benchmarks.load.produce",
            "--way",
            way,
            *flags(options | {"in_flight": self.in_flight}),
        ]
