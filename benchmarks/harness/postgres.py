"""The PostgreSQL of a run: embedded, or the one that was given."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from atlasqueue_server.embedded import EmbeddedPostgres
from benchmarks.harness import procfs

# Those that decide what a commit means and costs; recorded with every run.
RECORDED = (
    "server_version",
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "wal_level",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "max_connections",
    "autovacuum",
    "jit",
    "shared_preload_libraries",
)


@dataclass
class Postgres:
    """A server, with a connection of the harness's own to its maintenance database."""

    url: str
    connection: psycopg.Connection = field(repr=False)
    postmaster: int | None

    def settings(self) -> dict[str, str]:
        """The settings that matter, as the server has them."""
        query = "select name, current_setting(name) from pg_settings where name = any(%s)"
        found: dict[str, str] = dict(self.connection.execute(query, [list(RECORDED)]).fetchall())
        return {name: found[name] for name in RECORDED if name in found}

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """URL of a database, empty or a copy of the one named `template`; dropped afterwards.

        Making it checkpoints, so that no run pays for pages that an earlier one has left.
        """
        name = f"aq_bench_{uuid.uuid4().hex[:12]}"
        self.connection.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template or "template0")
            )
        )
        try:
            yield with_database(self.url, name)
        finally:
            self.connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )


def with_database(url: str, database: str) -> str:
    """The URL with another database name."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


@contextmanager
def open_postgres(
    url: str | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Postgres]:
    """The server at `url` (a role that may make databases), else an embedded one.

    `settings` apply to the embedded one only. Raises EmbeddedPostgresError, and ValueError when nothing answers at
    `url`.
    """
    if url is not None:
        with _connected(url) as postgres:
            yield postgres
        return
    # Directly in the temporary directory: PostgreSQL may run as a user that sees nothing else.
    directory = Path(tempfile.mkdtemp(prefix="atlasqueue-bench-"))
    with EmbeddedPostgres(directory, settings=settings, temporary=True) as server:
        with _connected(server.url_for("postgres")) as postgres:
            yield postgres


@contextmanager
def _connected(url: str) -> Iterator[Postgres]:
    try:
        connected = psycopg.connect(url, autocommit=True)
    except psycopg.OperationalError as error:
        raise ValueError(f"--database-url: {error}") from None
    except psycopg.ProgrammingError:
        # Its text may quote the address, and with it the password.
        raise ValueError("--database-url must look like postgresql://user@host/db") from None
    with connected as connection:
        yield Postgres(url, connection, _postmaster(connection))


def _postmaster(connection: psycopg.Connection) -> int | None:
    """The postmaster's process id, or None when the server runs on another machine."""
    row = connection.execute("select pg_backend_pid()").fetchone()
    assert row is not None
    if not procfs.name(row[0]).startswith("postgres"):
        return None
    return procfs.parent(row[0])
