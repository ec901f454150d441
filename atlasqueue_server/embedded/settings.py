"""The settings PostgreSQL is started with: good for a queue server on a laptop."""

from __future__ import annotations

import re
from collections.abc import Mapping

DEFAULTS: Mapping[str, str] = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "wal_level": "replica",
    "synchronous_commit": "on",
    # Room for bursts: a queue rewrites rows all the time, and checkpoints are what it feels.
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    # Queue statements are short; compiling them costs more than it saves.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%a ",
}
# Chosen by the server itself: it stays on the loopback address, on one port.
RESERVED = frozenset(
    {"port", "listen_addresses", "unix_socket_directories", "data_directory", "logging_collector"}
)
_NAME = re.compile(r"[a-z_][a-z0-9_.]*")


def merged_settings(given: Mapping[str, str]) -> dict[str, str]:
    """Return the defaults with the given settings on top.

    Raises:
        ValueError: a name is malformed or one of those that the server chooses itself.
    """
    for name in given:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a PostgreSQL setting")
        if name in RESERVED:
            raise ValueError(f"the setting {name} is chosen by the embedded server")
    return {**DEFAULTS, **given}


def as_arguments(settings: Mapping[str, str]) -> list[str]:
    """Return the settings as arguments of `postgres`."""
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
