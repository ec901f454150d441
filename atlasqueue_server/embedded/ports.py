"""Free ports on 127.0.0.1: for the embedded PostgreSQL, and for whatever is started beside it."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

# Below the range from which Linux, macOS and Windows take the ports of outgoing connections.
PORT_RANGE = range(25432, 26432)


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


def ports_to_keep(preferred: int | None) -> Iterator[int]:
    """Yield free ports that outgoing connections leave alone: the preferred one, then others in a random order."""
    if preferred is not None and is_port_free(preferred):
        yield preferred
    for port in random.sample(PORT_RANGE, len(PORT_RANGE)):
        if is_port_free(port):
            yield port


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now, each another one: for what is started at once and ends soon."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
