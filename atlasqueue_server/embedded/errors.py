"""Errors of the embedded PostgreSQL. Each message says what happened and what to do about it."""

from __future__ import annotations


class EmbeddedPostgresError(Exception):
    """Base of every error raised by this package."""


class BinariesNotFoundError(EmbeddedPostgresError):
    """No usable PostgreSQL programs were found."""


class DataDirectoryError(EmbeddedPostgresError):
    """The data directory cannot be used: wrong version, wrong owner or damaged."""


class DataDirectoryInUseError(DataDirectoryError):
    """Another live process runs its PostgreSQL on this data directory.

    Attributes:
        owner_pid: process id of that process, or None when it is not known.
    """

    def __init__(self, message: str, owner_pid: int | None = None) -> None:
        super().__init__(message)
        self.owner_pid = owner_pid


class PortTakenError(EmbeddedPostgresError):
    """The TCP port that was asked for is used by another program."""


class PrivilegesError(EmbeddedPostgresError):
    """Root found no way to run PostgreSQL, which refuses to run as root."""


class StartError(EmbeddedPostgresError):
    """PostgreSQL did not start; the message ends with the last lines of its log."""
