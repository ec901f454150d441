"""Starts programs through the supervisor script, as the user that PostgreSQL is to run as."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("supervisor.py")
TOOL_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class RunAs:
    """The user PostgreSQL sees itself as.

    Attributes:
        uid, gid: numeric ids.
        namespace: True to see these ids inside a user namespace only (files then belong to the
            caller); False to really become that user (files then belong to it).
    """

    uid: int
    gid: int
    namespace: bool


@dataclass(frozen=True)
class GuardTask:
    """What the supervisor needs to run one PostgreSQL server."""

    command: Sequence[str]
    run_as: RunAs | None
    log: Path
    socket_directory: Path
    lock: int
    temporary: Path | None


def clean_environment() -> dict[str, str]:
    """Return the environment without PG* variables, which would change the tools' behaviour."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def _script_command(task: dict[str, object]) -> list[str]:
    return [sys.executable, "-I", "-S", "-X", "utf8", str(SCRIPT), json.dumps(task)]


def run_once(
    run_as: RunAs | None,
    command: Sequence[str],
    *,
    enter: Path | None = None,
    text_input: str = "",
    lock: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a PostgreSQL tool to its end and return its output and exit code.

    Args:
        run_as: the user, or None for the caller's own.
        command: program and arguments, the program as an absolute path.
        enter: a directory that must be enterable by that user, or the run fails.
        text_input: text for its standard input.
        lock: descriptor of the directory lock, kept by the tool should the caller die meanwhile.
    """
    task: dict[str, object] = {
        "action": "once",
        "run_as": asdict(run_as) if run_as else None,
        "command": list(command),
        "enter": str(enter) if enter else None,
    }
    return subprocess.run(
        _script_command(task),
        input=text_input,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        cwd="/",
        env=clean_environment(),
        pass_fds=() if lock is None else (lock,),
        start_new_session=True,
        timeout=TOOL_TIMEOUT_SECONDS,
        check=False,
    )


def start_guard(task: GuardTask) -> subprocess.Popen[bytes]:
    """Start the supervisor, which starts PostgreSQL and writes its process id to its stdout."""
    arguments: dict[str, object] = {
        "action": "guard",
        "run_as": asdict(task.run_as) if task.run_as else None,
        "command": list(task.command),
        "parent": os.getpid(),
        "socket_directory": str(task.socket_directory),
        "temporary": str(task.temporary) if task.temporary else None,
    }
    with task.log.open("ab") as log:
        return subprocess.Popen(
            _script_command(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            env=clean_environment(),
            pass_fds=(task.lock,),
            # Ctrl-C in a terminal must reach the program, which then stops the server in order.
            start_new_session=True,
        )
