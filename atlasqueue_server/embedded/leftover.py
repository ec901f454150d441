"""Deals with a PostgreSQL that an earlier run left behind in the data directory.

The caller holds the directory's lock, so no live program of ours owns what is found here.
"""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from .directory import DataDirectory
from .errors import DataDirectoryError
from .processes import command_line, is_alive, wait_until

FAST_STOP_SECONDS = 30.0
IMMEDIATE_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class PidFile:
    """What postmaster.pid says: the process, and its status ("ready", "starting", ... or "")."""

    pid: int
    status: str


def read_pid_file(cluster: Path) -> PidFile | None:
    """Read postmaster.pid; None when it is missing or not complete yet."""
    try:
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    fields = lines.splitlines()
    if not fields or not fields[0].strip().lstrip("-").isdigit():
        return None
    # A negative number is a single-user server, as used during set-up.
    return PidFile(abs(int(fields[0])), "".join(fields[7:8]).strip())


def is_server_of(pid: int, cluster: Path) -> bool:
    """Tell whether a live process is a PostgreSQL on this cluster."""
    line = command_line(pid)
    return is_alive(pid) and "postgres" in line and str(cluster) in line


def running_leftover(cluster: Path) -> int | None:
    """Return the process id of a server that still runs on this cluster, or None."""
    found = read_pid_file(cluster)
    return found.pid if found is not None and is_server_of(found.pid, cluster) else None


def stop_leftover(directory: DataDirectory, pid: int) -> None:
    """Stop a server left behind, cleanly if it lets us.

    Raises:
        DataDirectoryError: it belongs to another user or does not stop.
    """
    for number, seconds in (
        (signal.SIGINT, FAST_STOP_SECONDS),
        (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS),
    ):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError:
            raise DataDirectoryError(
                f"a PostgreSQL of another user (process {pid}) runs on {directory.root}; "
                "stop it as that user, or use another data directory"
            ) from None
        if wait_until(lambda: not is_alive(pid), seconds):
            return
    raise DataDirectoryError(
        f"the PostgreSQL left behind on {directory.root} (process {pid}) does not stop; "
        "end it by hand"
    )


def remove_remains(directory: DataDirectory) -> None:
    """Delete what a killed run leaves: a pid file, a socket directory, a half-made cluster."""
    found = read_pid_file(directory.cluster)
    # PostgreSQL would take any process that has got this id meanwhile for a running server.
    if found is not None and "postgres" not in command_line(found.pid):
        (directory.cluster / "postmaster.pid").unlink(missing_ok=True)
    state = directory.read_state()
    if state is not None and state.socket_directory is not None:
        shutil.rmtree(state.socket_directory, ignore_errors=True)
    shutil.rmtree(directory.root / "cluster.new", ignore_errors=True)
