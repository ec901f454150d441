"""Launches the server process: picks the port, waits until it is ready, retries on clashes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .directory import DataDirectory
from .errors import EmbeddedPostgresError, PortTakenError, StartError
from .leftover import read_pid_file
from .ports import is_port_free, ports_to_keep
from .privileges import Execution
from .processes import POLL_SECONDS
from .settings import as_arguments
from .spawn import GuardTask, start_guard

StopMode = Literal["fast", "immediate"]
ATTEMPTS = 8
STOP_TIMEOUT_SECONDS = 90.0
# Sessions of a killed server take a moment to notice its death and go.
SESSIONS_GONE_SECONDS = 0.25
_BIND_FAILURES = ("could not bind", "could not create any TCP/IP sockets")
_STILL_DYING = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')


@dataclass(frozen=True)
class LaunchPlan:
    """All that a launch needs. `deadline` is a time of `time.monotonic()`."""

    directory: DataDirectory
    execution: Execution
    settings: Mapping[str, str]
    wanted_port: int | None
    last_port: int | None
    lock: int
    temporary: bool
    deadline: float


@dataclass(frozen=True)
class RunningServer:
    """A server that was launched, with the supervisor that guards it."""

    guard: subprocess.Popen[bytes]
    pid: int
    port: int
    socket_directory: Path

    def stop(self, mode: StopMode) -> None:
        """Order the stop and wait for it. Raises EmbeddedPostgresError when it takes too long."""
        assert self.guard.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self.guard.stdin.write(f"{mode}\n".encode())
                self.guard.stdin.flush()
            self.guard.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise EmbeddedPostgresError(
                f"PostgreSQL (process {self.pid}) did not stop within "
                f"{STOP_TIMEOUT_SECONDS:.0f} s; see its log"
            ) from None
        finally:
            with contextlib.suppress(BrokenPipeError):
                self.guard.stdin.close()


def launch(plan: LaunchPlan) -> RunningServer:
    """Launch the server and return when it accepts connections.

    Raises:
        PortTakenError: the wanted port is in use.
        StartError: it ended at once, or was not ready at the deadline.
    """
    if plan.wanted_port is not None and not is_port_free(plan.wanted_port):
        raise _port_taken(plan.wanted_port)
    ports = ports_to_keep(plan.last_port)
    port = plan.wanted_port or next(ports, None)
    log = ""
    for _ in range(ATTEMPTS):
        if port is None:
            raise StartError("no free port for PostgreSQL was found; give one")
        position = plan.directory.log_size()
        running = _launch_once(plan, port)
        if running is not None:
            return running
        log = plan.directory.log_since(position)
        if any(text in log for text in _BIND_FAILURES):
            if plan.wanted_port is not None:
                raise _port_taken(plan.wanted_port)
            port = next(ports, None)
        elif any(text in log for text in _STILL_DYING):
            time.sleep(SESSIONS_GONE_SECONDS)
        else:
            break
    raise StartError(f"PostgreSQL did not start. Its log ({plan.directory.log}) says:\n{log}")


def _port_taken(port: int) -> PortTakenError:
    return PortTakenError(
        f"port {port} on 127.0.0.1 is used by another program; stop that program, give another "
        "port, or give none to have a free one chosen"
    )


def _launch_once(plan: LaunchPlan, port: int) -> RunningServer | None:
    """Return the server when it is ready, None when it ended (its log says why)."""
    sockets = _make_socket_directory(plan.execution)
    guard = start_guard(_guard_task(plan, port, sockets))
    assert guard.stdout is not None
    with guard.stdout:
        pid = int(guard.stdout.readline().strip() or 0)
    running = RunningServer(guard, pid, port, sockets)
    try:
        ready = pid != 0 and _wait_ready(plan, running)
    except BaseException:
        running.stop("immediate")
        raise
    if ready:
        return running
    running.stop("immediate")
    shutil.rmtree(sockets, ignore_errors=True)
    return None


def _guard_task(plan: LaunchPlan, port: int, sockets: Path) -> GuardTask:
    return GuardTask(
        command=[
            plan.execution.binaries.postgres,
            *("-D", str(plan.directory.cluster), "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-k", str(sockets)),
            *as_arguments(plan.settings),
        ],
        run_as=plan.execution.run_as,
        log=plan.directory.log,
        socket_directory=sockets,
        lock=plan.lock,
        temporary=plan.directory.root if plan.temporary else None,
    )


def _wait_ready(plan: LaunchPlan, running: RunningServer) -> bool:
    while time.monotonic() < plan.deadline:
        found = read_pid_file(plan.directory.cluster)
        if found is not None and found.pid == running.pid and found.status == "ready":
            return True
        if running.guard.poll() is not None:
            return False
        time.sleep(POLL_SECONDS)
    raise StartError(f"PostgreSQL was not ready in time; see {plan.directory.log}")


def _make_socket_directory(execution: Execution) -> Path:
    # A socket's path is limited to about 100 bytes, so it cannot lie in the data directory.
    parent = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else None
    sockets = Path(tempfile.mkdtemp(prefix="aq-pg-", dir=parent))
    os.chown(sockets, *execution.owner)
    return sockets
