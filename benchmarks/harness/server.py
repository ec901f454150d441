"""Real AtlasQueue servers for a measurement."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atlasqueue_server.embedded.ports import free_ports
from benchmarks.harness.runner import ROOT, RunnerError


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it answers, its process and those it has started."""

    address: str
    http: str
    pid: int


def migrate(database_url: str) -> None:
    """Applies all migrations."""
    from atlasqueue_server.store.migrations import migrate as apply

    asyncio.run(apply(database_url))


@contextlib.contextmanager
def serving(database_url: str, log: Path, arguments: str = "") -> Iterator[Server]:
    """A server process on a migrated database; `arguments` as on the command line of `serve`.

    Raises RunnerError when it does not become ready.
    """
    grpc_port, http_port = free_ports(2)
    command = [sys.executable, "-m", "atlasqueue_server", "serve"]
    command += ["--grpc-port", str(grpc_port), "--http-port", str(http_port)]
    command += shlex.split(arguments)
    environment = os.environ | {
        "ATLASQUEUE_LOG_LEVEL": "warning",
        # In the environment, not a flag: others on the machine could read the password.
        "ATLASQUEUE_DATABASE_URL": database_url,
    }
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, env=environment)
    try:
        http = f"http://127.0.0.1:{http_port}"
        _until_ready(process, http, log)
        yield Server(f"127.0.0.1:{grpc_port}", http, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_ready(process: subprocess.Popen[bytes], http: str, log: Path) -> None:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(f"{http}/readyz", timeout=2):
                return
        time.sleep(0.05)
    raise RunnerError(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")
