"""Programs that make load, and how the harness talks to them.

    runner                     harness
    ready\n            ─────▶            connected, everything compiled: nothing is measured yet
                       ◀─────  go\n      the counters were read
    {"seconds": …}\n   ─────▶            the work was done
                       ◀─────  stop\n    (or end of input) the counters were read again

What else a runner prints goes to standard error, into its log.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_QUIET = {"ATLASQUEUE_LOG_LEVEL": "warning", "NODE_ENV": "production", "NO_LOG_SUCCESS": "1"}


class RunnerError(Exception):
    """A runner died, hung or spoke gibberish; the message ends with the tail of its log."""


class Runner:
    """A child process that speaks the protocol above. Used as a context manager: killed at the end."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path = ROOT,
    ) -> None:
        self._log = log
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._command = list(command)
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=directory,
                env=os.environ | _QUIET | dict(environment or {}),
                text=True,
            )
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def ready(self, timeout_s: float = 60) -> None:
        """Waits until it can be told to go."""
        line = self._line(timeout_s)
        if line != "ready":
            raise self._error(f"said {line!r} instead of ready")

    def go(self) -> None:
        """Lets it work."""
        self._say("go")

    def result(self, timeout_s: float = 900) -> dict[str, Any]:
        """What it measured."""
        line = self._line(timeout_s)
        try:
            answer = json.loads(line)
        except ValueError:
            raise self._error(f"said {line[:200]!r} instead of a result") from None
        if not isinstance(answer, dict):
            raise self._error(f"said {line[:200]!r} instead of a result")
        return answer

    def stop(self, timeout_s: float = 60) -> None:
        """Lets it end, and waits for that."""
        if self.process.poll() is None:
            self._say("stop")
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise self._error(f"did not end within {timeout_s} s") from None
        if code != 0:
            raise self._error(f"ended with code {code}")

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._error("died") from None

    def _line(self, timeout_s: float) -> str:
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise self._error(f"said nothing for {timeout_s} s") from None
        if line is None:
            raise self._error(f"ended early with code {self.process.wait()}")
        return line

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())
        self._lines.put(None)

    def _error(self, what: str) -> RunnerError:
        tail = self._log.read_text(errors="replace")[-2000:]
        return RunnerError(f"{' '.join(self._command[:4])} … {what}\n{tail}")


def run(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 300,
) -> None:
    """Runs a program to its end. Raises RunnerError when it fails."""
    with Runner(command, log, environment=environment) as runner:
        runner.stop(timeout_s)


def wait_until(condition: Any, timeout_s: float, what: str, pause_s: float = 0.005) -> None:
    """Asks `condition` until it holds. Raises RunnerError when it does not in time."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up:
            raise RunnerError(f"{what} did not happen within {timeout_s} s")
        time.sleep(pause_s)
