"""A real pgbouncer in front of a PostgreSQL, for one test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.ports import free_port

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MISSING = "pgbouncer is not installed; `make tools` installs it"
CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory}/users.txt
pool_mode = {mode}
default_pool_size = 20
server_round_robin = {round_robin}
"""


@contextmanager
def pgbouncer(database_url: str, mode: str, *, round_robin: bool = False) -> Iterator[str]:
    """Runs one in `mode` (session, transaction, statement); the URL of the database through it."""
    assert PROGRAM is not None, MISSING
    parts = urlsplit(database_url)
    # Directly in the temporary directory: pytest's own one is closed to the user `nobody`.
    directory = Path(tempfile.mkdtemp(prefix="atlasqueue-pgbouncer-"))
    directory.chmod(0o755)
    port = free_port()
    (directory / "users.txt").write_text(f'"{parts.username}" "{parts.password}"\n')
    (directory / "pgbouncer.ini").write_text(
        CONFIGURATION.format(
            port=parts.port,
            listen_port=port,
            directory=directory,
            mode=mode,
            round_robin=int(round_robin),
        )
    )
    command = [PROGRAM, str(directory / "pgbouncer.ini")]
    if os.geteuid() == 0:
        command[1:1] = ["-u", "nobody"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(process, port, directory / "log")
        place = f"{parts.username}:{parts.password}@127.0.0.1:{port}"
        yield urlunsplit(parts._replace(netloc=place))
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"pgbouncer did not start: {log.read_text()}")
