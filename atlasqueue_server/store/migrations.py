"""Applies migrations/*.sql, in order, each once.

Plain SQL, forward only, each in its own transaction. Several servers may start together: one holds the
advisory lock and the others poll for it. Polling, not waiting inside `pg_advisory_lock`, because a
waiter holds a snapshot open, which blocks CREATE INDEX CONCURRENTLY for as long as it waits
(hexpm/hexpm#1835).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import psycopg

from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.store.database import Connection, connect
from atlasqueue_server.store.pooler import ADVICE, pools_transactions
from atlasqueue_server.store.statements import statement

LOCK_KEY = 0x61746C6173
LOCK_POLL_S = 0.1
OLDEST_POSTGRES = 150000
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
# What PostgreSQL says, to which libpq adds no code.
NONE_LEFT = ("too many clients", "remaining connection slots")
OWN_LIMIT = "too many connections for"
ADVICE_NONE_LEFT = (
    "superusers still get one: see who has them (select usename, application_name, count(*) from "
    "pg_stat_activity group by 1, 2 order by 3 desc), then lower database_pool_max of the servers or raise "
    "max_connections (docs/operating/many_servers.md)"
)
ADVICE_LIMIT = (
    "that limit is the role's or the database's own: raise it (alter role … connection limit 50, or alter database), "
    "or lower database_pool_max of the servers (docs/operating/many_servers.md)"
)
ADVICE_LOCKED = (
    "it found a table locked, by a dump maybe. Who has been in a transaction for long: select pid, usename, "
    "application_name, xact_start from pg_stat_activity where datname = current_database() order by 4; let it end, "
    "or end it, and run this again"
)
MAY_MIGRATE = "CREATE on the database, or migrate as the owner of schema atlasqueue"
ENCODING = "UTF8"
OF_ENCODING = f"encoding '{ENCODING}' locale 'C' template template0"
MAY_READ = "USAGE on schema atlasqueue and the rights on its tables and sequences"
ADDRESS_UNREADABLE = (
    "the database's address cannot be read: it must look like "
    "postgresql://user:password@host:5432/database, with %20 for a space in it and parameters "
    "that PostgreSQL knows"
)


class MigrationError(Exception):
    """The database cannot be used as it is; the message says what to do."""


class SchemaTooNew(MigrationError):
    """The database's schema is newer than this server knows: run a newer server."""


class SchemaTooOld(MigrationError):
    """The database's schema is older than this server needs: run `atlasqueue-server migrate`."""


class PostgresTooOld(MigrationError):
    """PostgreSQL is older than 15."""


class WrongEncoding(MigrationError):
    """The database cannot hold every text: its encoding is not UTF8."""


class ReadOnly(MigrationError):
    """The database takes no writes: a standby, most often."""


class TransactionPooling(MigrationError):
    """A pooler between this program and PostgreSQL changes the backend below a connection."""


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

    Raises MigrationError (SchemaTooNew, PostgresTooOld, WrongEncoding, TransactionPooling, ReadOnly, the role may
    not, or somebody holds a table's lock), DatabaseUnavailable.
    """
    await _refuse_pooler(database_url)
    async with _connected(database_url, MAY_MIGRATE) as connection:
        await _refuse_standby(connection)
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
    """What migrate would do. Raises MigrationError (SchemaTooNew, PostgresTooOld, WrongEncoding, or the role may
    not), DatabaseUnavailable."""
    async with _connected(database_url, MAY_READ) as connection:
        return await _status(connection)


@asynccontextmanager
async def _connected(database_url: str, needs: str) -> AsyncIterator[Connection]:
    """A connection, on which what the database or the role makes impossible is told in a sentence."""
    async with await _connect(database_url) as connection:
        try:
            yield connection
        except psycopg.errors.InsufficientPrivilege as error:
            raise MigrationError(
                f"the database's role {connection.info.user} may not do that: {error}. Grant it {needs}"
            ) from error
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable(f"the database broke off: {error}; run it again") from error


def no_connection(error: Exception) -> DatabaseUnavailable:
    """Why there is no connection, and what to do where PostgreSQL has none left even for a look."""
    text = f"cannot connect to the database: {str(error) or type(error).__name__}"
    if OWN_LIMIT in text:
        text += f"\n{ADVICE_LIMIT}"
    elif any(words in text for words in NONE_LEFT):
        text += f"\n{ADVICE_NONE_LEFT}"
    return DatabaseUnavailable(text)


async def _connect(database_url: str) -> Connection:
    try:
        connection = await connect(database_url, "atlasqueue-migrate", connect_timeout=10)
    except psycopg.OperationalError as error:
        raise no_connection(error) from error
    except psycopg.ProgrammingError:
        # Its text may quote the address, and with it the password.
        raise MigrationError(ADDRESS_UNREADABLE) from None
    if connection.info.server_version < OLDEST_POSTGRES:
        await connection.close()
        raise PostgresTooOld(
            f"PostgreSQL {connection.info.server_version // 10000} is too old: 15 or newer is needed"
        )
    if (encoding := connection.info.parameter_status("server_encoding")) not in (None, ENCODING):
        await connection.close()
        raise WrongEncoding(
            f"the database's encoding is {encoding}, which cannot hold every text that a job may: make another one, "
            f"create database queue {OF_ENCODING};"
        )
    return connection


async def _refuse_pooler(database_url: str) -> None:
    try:
        pooled = await pools_transactions(database_url)
    except psycopg.ProgrammingError:
        # An address that cannot be read, of which the connection made next says more.
        return
    except (psycopg.Error, TimeoutError) as error:
        raise no_connection(error) from error
    if pooled:
        raise TransactionPooling(
            "the database is reached through a pooler in transaction or statement mode, under which "
            f"prepared statements, LISTEN and settings of a connection do not work. {ADVICE}"
        )


async def _refuse_standby(connection: Connection) -> None:
    cursor = await connection.execute(statement("ping"))
    if await cursor.fetchone() != (True,):
        raise ReadOnly(
            "the database takes no writes: it is a standby, or default_transaction_read_only is on. Name the "
            "primary, or all hosts and target_session_attrs=read-write (docs/operating/failover.md)"
        )


async def check_schema(database_url: str) -> int:
    """The schema's version.

    Raises MigrationError (SchemaTooNew, SchemaTooOld, PostgresTooOld, WrongEncoding, TransactionPooling, ReadOnly,
    or the role may not), DatabaseUnavailable.
    """
    await _refuse_pooler(database_url)
    async with _connected(database_url, MAY_READ) as connection:
        await _refuse_standby(connection)
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
                raise MigrationError(
                    f"{migration.name} changed nothing: in {LOCK_TRIES} tries {ADVICE_LOCKED}"
                ) from error
            if tries_left == LOCK_TRIES - 1:
                on_wait(f"{migration.name} waits: somebody holds a table that it changes (a dump?)")
        await asyncio.sleep(LOCK_WAIT_S)
