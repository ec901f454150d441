"""Small questions about processes and ports that the standard library does not answer."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Below the range from which Linux, macOS and Windows take the ports of outgoing connections.
PORT_RANGE = range(25432, 26432)
POLL_SECONDS = 0.02


def is_alive(pid: int) -> bool:
    """Tell whether a process runs. A dead one that nobody has waited for does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return True
    return not state or state[0] not in ("Z", "X")


def command_line(pid: int) -> str:
    """Return the command line of a process, or "" when it is not known."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        return raw.replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        pass
    command = ["ps", "-p", str(pid), "-o", "command="]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Poll until the condition holds; return False when the time is over first."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def is_port_free(port: int) -> bool:
    """Tell whether a server could listen on 127.0.0.1:port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports(preferred: int | None) -> Iterator[int]:
    """Yield free ports: the preferred one, then the range from a random place on."""
    if preferred is not None and is_port_free(preferred):
        yield preferred
    for port in random.sample(PORT_RANGE, len(PORT_RANGE)):
        if is_port_free(port):
            yield port
