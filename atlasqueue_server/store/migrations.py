"""Applies migrations/*.sql, in order, each once.

Plain SQL, forward only, each in its own transaction. Several servers may start together: one holds the
advisory lock and the others poll for it. Polling, not waiting inside `pg_advisory_lock`, because a
waiter holds a snapshot open, which blocks CREATE INDEX CONCURRENTLY for as long as it waits
(hexpm/hexpm#1835).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import psycopg

from atlasqueue_server.store.database import Connection
from atlasqueue_server.store.fitness import (
    UnfitDatabase,
    connected,
    refuse_pooler,
    refuse_standby,
)
from atlasqueue_server.store.statements import statement

LOCK_KEY = 0x61746C6173
LOCK_POLL_S = 0.1
# Who waits for a table's lock holds up all who come later, the servers that run first of all: so each try is short.
LOCK_WAIT_S = 1
LOCK_TRIES = 60
# Over those of the role and the database: an index on a large table takes the time that it takes.
SETTINGS = {
    "lock_timeout": f"{LOCK_WAIT_S}s",
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "search_path": "",
}
ADVICE_LOCKED = (
    "it found a table locked, by a dump maybe. Who has been in a transaction for long: select pid, usename, "
    "application_name, xact_start from pg_stat_activity where datname = current_database() order by 4; let it end, "
    "or end it, and run this again"
)
MAY_MIGRATE = "CREATE on the database, or migrate as the owner of schema atlasqueue"
MAY_READ = "USAGE on schema atlasqueue and the rights on its tables and sequences"


class SchemaTooNew(UnfitDatabase):
    """The database's schema is newer than this server knows: run a newer server."""


class SchemaTooOld(UnfitDatabase):
    """The database's schema is older than this server needs: run `atlasqueue-server migrate`."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number and its text."""

    version: int
    name: str
    text: str


@dataclass(slots=True)
class MigrationReport:
    """What migrate found and did: the versions before and after, and the names of what was applied."""

    before: int
    version: int
    known: int
    applied: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)


def _directory() -> Traversable:
    packaged = files("atlasqueue_server") / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "migrations"


def known_migrations() -> list[Migration]:
    """The migrations that this server comes with, in order."""
    found = []
    for file in _directory().iterdir():
        number = file.name.partition("_")[0]
        if file.name.endswith(".sql") and number.isdigit():
            found.append(Migration(int(number), file.name, file.read_text("utf-8")))
    return sorted(found, key=lambda m: m.version)


async def migrate(
    database_url: str, on_wait: Callable[[str], object] = lambda _why: None
) -> MigrationReport:
    """Brings the schema up to date; safe when several servers call it at once. `on_wait` hears once for each
    reason to wait what it is.

    Raises UnfitDatabase (SchemaTooNew, PostgresTooOld, WrongEncoding, TransactionPooling, ReadOnly, the role may
    not, or somebody holds a table's lock), DatabaseUnavailable.
    """
    await refuse_pooler(database_url)
    async with connected(database_url, MAY_MIGRATE) as connection:
        await refuse_standby(connection)
        if not await _try_lock(connection):
            on_wait("waiting while another process migrates this database")
            await asyncio.sleep(LOCK_POLL_S)
            # Polled on purpose, see above.
            while not await _try_lock(connection):
                await asyncio.sleep(LOCK_POLL_S)
        try:
            return await _apply(connection, on_wait)
        finally:
            # A connection that broke has released it.
            with contextlib.suppress(psycopg.OperationalError):
                await connection.execute(statement("release_migration_lock"), {"key": LOCK_KEY})


async def status(database_url: str) -> MigrationReport:
    """What migrate would do. Raises UnfitDatabase (SchemaTooNew, PostgresTooOld, WrongEncoding, or the role may
    not), DatabaseUnavailable."""
    async with connected(database_url, MAY_READ) as connection:
        return await _status(connection)


async def check_schema(database_url: str) -> int:
    """The schema's version.

    Raises UnfitDatabase (SchemaTooNew, SchemaTooOld, PostgresTooOld, WrongEncoding, TransactionPooling, ReadOnly,
    or the role may not), DatabaseUnavailable.
    """
    await refuse_pooler(database_url)
    async with connected(database_url, MAY_READ) as connection:
        await refuse_standby(connection)
        report = await _status(connection)
    if report.pending:
        raise SchemaTooOld(
            f"the database's schema is at version {report.before} and lacks {', '.join(report.pending)}: "
            "run `atlasqueue-server migrate` first"
        )
    return report.version


async def _try_lock(connection: Connection) -> bool:
    cursor = await connection.execute(statement("try_migration_lock"), {"key": LOCK_KEY})
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _version(connection: Connection) -> int:
    cursor = await connection.execute(statement("has_migrations"))
    row = await cursor.fetchone()
    if not row or not row[0]:
        return 0
    cursor = await connection.execute(statement("get_schema_version"))
    row = await cursor.fetchone()
    assert row is not None
    assert isinstance(row[0], int)
    return row[0]


async def _status(connection: Connection) -> MigrationReport:
    version = await _version(connection)
    known = known_migrations()
    newest = known[-1].version
    if version > newest:
        raise SchemaTooNew(
            f"the database's schema is at version {version}, newer than this server knows "
            f"({newest}): run a newer server"
        )
    pending = [m.name for m in known if m.version > version]
    return MigrationReport(before=version, version=version, known=newest, pending=pending)


async def _apply(connection: Connection, on_wait: Callable[[str], object]) -> MigrationReport:
    report = await _status(connection)
    named = {"names": list(SETTINGS), "settings": list(SETTINGS.values())}
    await connection.execute(statement("configure_connection"), named)
    for migration in known_migrations():
        if migration.version <= report.before:
            continue
        await _apply_one(connection, migration, on_wait)
        report.applied.append(migration.name)
        report.version = migration.version
    report.pending.clear()
    return report


async def _apply_one(
    connection: Connection, migration: Migration, on_wait: Callable[[str], object]
) -> None:
    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            async with connection.transaction():
                await connection.execute(migration.text.encode())
                await connection.execute(
                    statement("record_migration"),
                    {"version": migration.version, "name": migration.name},
                )
            return
        except psycopg.errors.LockNotAvailable as error:
            if not tries_left:
                raise UnfitDatabase(
                    f"{migration.name} changed nothing: in {LOCK_TRIES} tries {ADVICE_LOCKED}"
                ) from error
            if tries_left == LOCK_TRIES - 1:
                on_wait(f"{migration.name} waits: somebody holds a table that it changes (a dump?)")
        await asyncio.sleep(LOCK_WAIT_S)
