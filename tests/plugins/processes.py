"""Real server and worker processes, which a test may kill; none outlives its test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import free_port

ROOT = Path(__file__).parents[2]


@dataclass
class Child:
    """A process, and where it answers if it is a server."""

    process: subprocess.Popen[bytes]
    log: Path
    address: str = ""

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(30)


@dataclass
class Processes:
    """Starts processes; their logs are in `directory`."""

    directory: Path
    children: list[Child] = field(default_factory=list)

    def server(self, database_url: str, *options: str, address: str | None = None) -> Child:
        """A server, on the same address as before when one is given."""
        address = address or f"127.0.0.1:{free_port()}"
        command = ["atlasqueue_server", "serve", "--database-url", database_url]
        command += ["--grpc-port", address.rpartition(":")[2], "--http-port", str(free_port())]
        command += options
        child = self._start("server", *command)
        child.address = address
        return child

    def worker(self, app: str, addresses: str, *options: str) -> Child:
        """A worker of MODULE:APP."""
        return self._start(
            "worker", "atlasqueue_worker", "run", app, "--server", addresses, *options
        )

    def _start(self, name: str, module: str, *arguments: str) -> Child:
        log = self.directory / f"{name}-{len(self.children)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=os.environ | {"ATLASQUEUE_LOG_LEVEL": "info"},
            )
        child = Child(process, log)
        self.children.append(child)
        return child


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts real processes."""
    started = Processes(tmp_path)
    yield started
    for child in started.children:
        if child.process.poll() is None:
            child.kill()
