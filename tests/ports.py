"""A free port. Apart from the fixtures, so that what runs without pytest can have one too."""

from __future__ import annotations

import contextlib
import socket


def free_port() -> int:
    """A port that nobody listens on now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
