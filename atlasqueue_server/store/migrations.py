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
from atlasqueue_server.store.pooler import ADVICE, pools_transactions
from atlasqueue_server.store.statements import statement

Connection = psycopg.AsyncConnection[tuple[object, ...]]

LOCK_KEY = 0x61746C6173
LOCK_POLL_S = 0.1
OLDEST_POSTGRES = 150000
# What PostgreSQL says, to which libpq adds no code.
NONE_LEFT = ("too many clients", "remaining connection slots", "too many connections for")
ADVICE_NONE_LEFT = (
    "superusers still get one: see who has them (select usename, application_name, count(*) from "
    "pg_stat_activity group by 1, 2 order by 3 desc), then lower database_pool_max of the servers or raise "
    "max_connections (docs/operating/many_servers.md)"
)
MAY_MIGRATE = "CREATE on the database, or migrate as the owner of schema atlasqueue"
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


async def migrate(database_url: str, on_wait: Callable[[], None] = lambda: None) -> MigrationReport:
    """Brings the schema up to date; safe when several servers call it at once.

    Calls `on_wait` once if another one has the lock.

    Raises MigrationError (SchemaTooNew, PostgresTooOld, TransactionPooling, ReadOnly, or the role may
    not), DatabaseUnavailable.
    """
    await _refuse_pooler(database_url)
    async with _connected(database_url, MAY_MIGRATE) as connection:
        await _refuse_standby(connection)
        if not await _try_lock(connection):
            on_wait()
            await asyncio.sleep(LOCK_POLL_S)
            # Polled on purpose, see above.
            while not await _try_lock(connection):
                await asyncio.sleep(LOCK_POLL_S)
        try:
            return await _apply(connection)
        finally:
            # A connection that broke has released it.
            with contextlib.suppress(psycopg.OperationalError):
                await connection.execute(statement("release_migration_lock"), {"key": LOCK_KEY})


async def status(database_url: str) -> MigrationReport:
    """What migrate would do. Raises MigrationError (SchemaTooNew, PostgresTooOld, or the role may not),
    DatabaseUnavailable."""
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
    if any(words in text for words in NONE_LEFT):
        text += f"\n{ADVICE_NONE_LEFT}"
    return DatabaseUnavailable(text)


async def _connect(database_url: str) -> Connection:
    try:
        connection = await psycopg.AsyncConnection.connect(
            database_url, autocommit=True, connect_timeout=10, application_name="atlasqueue-migrate"
        )
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

    Raises MigrationError (SchemaTooNew, SchemaTooOld, PostgresTooOld, TransactionPooling, ReadOnly, or the
    role may not), DatabaseUnavailable.
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


async def _apply(connection: Connection) -> MigrationReport:
    report = await _status(connection)
    for migration in known_migrations():
        if migration.version <= report.before:
            continue
        async with connection.transaction():
            await connection.execute(migration.text.encode())
            await connection.execute(
                statement("record_migration"),
                {"version": migration.version, "name": migration.name},
            )
        report.applied.append(migration.name)
        report.version = migration.version
    report.pending.clear()
    return report
