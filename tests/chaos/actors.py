"""Server and worker processes, and what can be done to one. Each deed is told to the history, before and after."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.history.events import Outage, Process
from tests.history.recorder import Recorder

STOP_S = 60.0


class Actor:
    """A process. `who` names one start of it; `role` stays over restarts (server_1, say)."""

    def __init__(
        self, recorder: Recorder, who: str, role: str, process: subprocess.Popen[bytes], log: Path
    ) -> None:
        self.who = who
        self.role = role
        self.log = log
        self.wanted_gone = False
        self._process = process
        self._recorder = recorder
        self._ended = False
        self._tell("started")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_server(self) -> bool:
        """Whether an absence of it is an outage."""
        return self.role.startswith("server")

    def _tell(self, state: str) -> None:
        self._recorder.record(Process, who=self.who, state=state)

    def _tell_outage(self, *, ended: bool) -> None:
        if self.is_server:
            self._recorder.record(Outage, who=self.who, ended=ended)

    def kill(self) -> None:
        """kill -9."""
        self._leave("killing", signal.SIGKILL)
        self._tell("killed")

    def terminate(self, *, wait: bool = True) -> int | None:
        """SIGTERM: a clean stop. The exit code, or None without waiting."""
        self._leave("killing", signal.SIGTERM, wait=False)
        return self.wait() if wait else None

    def wait(self) -> int:
        """The exit code, when it has ended."""
        code = self._process.wait(STOP_S)
        self._tell("ended")
        return code

    def _leave(self, state: str, number: signal.Signals, *, wait: bool = True) -> None:
        self.wanted_gone = True
        self._tell(state)
        self._tell_outage(ended=False)
        self._process.send_signal(number)
        if wait:
            self._process.wait(STOP_S)

    def stop(self) -> None:
        """SIGSTOP."""
        self._tell("stopping")
        self._tell_outage(ended=False)
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)
        self._tell("continued")
        self._tell_outage(ended=True)

    def tell_back(self) -> None:
        """A server that was away answers again."""
        self._tell_outage(ended=True)

    def cut(self, *, healed: bool) -> None:
        """Its link was cut by the caller (who says so before), or healed (who says so after)."""
        self._tell("healed" if healed else "cutting")

    def poll(self) -> int | None:
        """The exit code if it has ended; told once."""
        code = self._process.poll()
        if code is not None and not self._ended:
            self._ended = True
            self._tell("ended")
        return code

    @property
    def died(self) -> bool:
        """It has ended, and nobody wanted it to."""
        return self.poll() is not None and not self.wanted_gone

    def end(self) -> None:
        """Ends it, in whatever state it is."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(STOP_S)


def start(
    recorder: Recorder,
    who: str,
    role: str,
    command: Sequence[str],
    log: Path,
    environment: dict[str, str],
) -> Actor:
    """Starts a process with its output in `log`."""
    root = Path(__file__).parents[2]
    with log.open("ab") as output:
        output.write(f"--- {who} {time.strftime('%H:%M:%S')}\n".encode())
        output.flush()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=root,
            env=os.environ | environment,
        )
    return Actor(recorder, who, role, process, log)
