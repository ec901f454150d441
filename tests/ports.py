"""A free port. Apart from the fixtures, so that what runs without pytest can have one too."""

from __future__ import annotations

from atlasqueue_server.embedded.ports import free_ports


def free_port() -> int:
    """A port that nobody listens on now."""
    (port,) = free_ports(1)
    return port
