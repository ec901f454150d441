"""One of the processes of `--processes N`: `python -m atlasqueue_server.member`, started by processes.py.

It reads its settings as a line of JSON from standard input, says on standard output when it serves, and
drains when it is told to (SIGTERM) or when the process that watches over it is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable

STDIN = 0
CHUNK_BYTES = 65_536


class Member:
    """The link to the process that watches over this one."""

    def serving(self, grpc_port: int, http_port: int) -> None:
        """Tells that this process serves."""
        sys.stdout.write(json.dumps({"grpc_port": grpc_port, "http_port": http_port}) + "\n")
        sys.stdout.flush()

    def when_alone(self, callback: Callable[[], object]) -> None:
        """Calls back in the event loop, once, when the other process is gone."""
        loop = asyncio.get_running_loop()

        def readable() -> None:
            if not os.read(STDIN, CHUNK_BYTES):
                loop.remove_reader(STDIN)
                callback()

        loop.add_reader(STDIN, readable)


def _read_line() -> bytes:
    # Not through sys.stdin, whose buffer would take what `when_alone` waits for.
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(STDIN, CHUNK_BYTES)
        if not chunk:
            break
        line += chunk
    return line


def main() -> int:
    """Serves; the exit code."""
    from atlasqueue_server import logs
    from atlasqueue_server.app import run
    from atlasqueue_server.config import ServerConfig
    from atlasqueue_server.startup import StartupError

    line = _read_line()
    if not line:
        sys.stderr.write("atlasqueue-server: say `atlasqueue-server serve --processes N`\n")
        return 2
    config = ServerConfig(**json.loads(line))
    logs.configure(config.log_level, config.log_format)
    try:
        return run(config, Member())
    except StartupError as error:
        for text in str(error).splitlines():
            sys.stderr.write(f"atlasqueue-server: {text}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
