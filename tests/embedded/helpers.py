"""What the tests of the embedded PostgreSQL share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from atlasqueue_server.embedded.processes import command_line, is_alive

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("program.py")
FAST = {"fsync": "off"}


def eventually(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Poll until the condition holds; fail the test when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements, each committed by itself; return the rows of the last."""
    rows: list[tuple[Any, ...]] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
    return rows


def processes_of(directory: Path) -> list[int]:
    """Return the live processes whose command line names the directory, test programs excluded."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [
        pid
        for pid in pids
        if is_alive(pid)
        and pid != os.getpid()
        and str(directory) in (line := command_line(pid))
        and PROGRAM.name not in line
    ]


@contextmanager
def open_temporary_directory() -> Iterator[Path]:
    """Make a directory that every user can enter, which pytest's own one is not."""
    with tempfile.TemporaryDirectory(prefix="atlasqueue-test-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def program(
    data_directory: Path, *, command: Sequence[str] = (), **arguments: Any
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run program.py; give the process and what it told. Killed at the end if still alive."""
    given = {
        "root": str(ROOT),
        "data_directory": str(data_directory),
        "settings": FAST,
        **arguments,
    }
    process = subprocess.Popen(
        [*(command or (sys.executable,)), str(PROGRAM), json.dumps(given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the program ended before PostgreSQL was ready"
        yield process, json.loads(line)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()
