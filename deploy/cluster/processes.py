"""Child processes that none of our endings leaves behind, each with a log of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Child:
    """A process and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None


class Children:
    """Starts processes; `stop` ends them in the opposite order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.all: list[Child] = []

    def start(self, name: str, *command: str, environment: dict[str, str] | None = None) -> Child:
        """Starts a program in a session of its own, so that Ctrl-C reaches it through `stop` alone."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env=os.environ | (environment or {}),
                start_new_session=True,
            )
        child = Child(name, process, log)
        self.all.append(child)
        return child

    def module(self, name: str, *command: str, environment: dict[str, str] | None = None) -> Child:
        """Starts a Python module."""
        return self.start(name, sys.executable, "-m", *command, environment=environment)

    def stop(self) -> list[str]:
        """SIGTERM, then SIGKILL to what does not listen; the names of those that had to be killed."""
        killed = []
        for child in reversed(self.all):
            if not child.alive:
                continue
            child.process.send_signal(signal.SIGTERM)
            try:
                child.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
                killed.append(child.name)
        return killed
