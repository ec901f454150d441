"""Whether a database can be used as it is, and what to do when not: address, version, encoding, rights, pooler, standby."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import psycopg

from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.store.database import Connection, connect
from atlasqueue_server.store.pooler import ADVICE, pools_transactions
from atlasqueue_server.store.statements import statement

OLDEST_POSTGRES = 150000
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
ENCODING = "UTF8"
OF_ENCODING = f"encoding '{ENCODING}' locale 'C' template template0"
ADDRESS_UNREADABLE = (
    "the database's address cannot be read: it must look like "
    "postgresql://user:password@host:5432/database, with %20 for a space in it and parameters "
    "that PostgreSQL knows"
)


class UnfitDatabase(Exception):
    """The database cannot be used as it is; the message says what to do."""


class PostgresTooOld(UnfitDatabase):
    """PostgreSQL is older than 15."""


class WrongEncoding(UnfitDatabase):
    """The database cannot hold every text: its encoding is not UTF8."""


class ReadOnly(UnfitDatabase):
    """The database takes no writes: a standby, most often."""


class TransactionPooling(UnfitDatabase):
    """A pooler between this program and PostgreSQL changes the backend below a connection."""


@asynccontextmanager
async def connected(database_url: str, needs: str) -> AsyncIterator[Connection]:
    """A connection, on which what the database or the role makes impossible is told in a sentence.

    Raises UnfitDatabase (PostgresTooOld, WrongEncoding, an address that cannot be read, or the role lacks what it
    `needs`), DatabaseUnavailable.
    """
    async with await _connect(database_url) as connection:
        try:
            yield connection
        except psycopg.errors.InsufficientPrivilege as error:
            raise UnfitDatabase(
                f"the database's role {connection.info.user} may not do that: {error}. Grant it {needs}"
            ) from error
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable(f"the database broke off: {error}; run it again") from error


def _no_connection(error: Exception) -> DatabaseUnavailable:
    """Why there is no connection, and what to do where PostgreSQL has none left even for a look."""
    text = f"cannot connect to the database: {str(error) or type(error).__name__}"
    if OWN_LIMIT in text:
        text += f"\n{ADVICE_LIMIT}"
    elif any(words in text for words in NONE_LEFT):
        text += f"\n{ADVICE_NONE_LEFT}"
    return DatabaseUnavailable(text)


@contextmanager
def connection_explained() -> Iterator[None]:
    """Tells in a sentence why a connection cannot be made, or breaks. Raises UnfitDatabase, DatabaseUnavailable."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise _no_connection(error) from error
    except psycopg.ProgrammingError:
        # Its text may quote the address, and with it the password.
        raise UnfitDatabase(ADDRESS_UNREADABLE) from None


async def _connect(database_url: str) -> Connection:
    with connection_explained():
        connection = await connect(database_url, "atlasqueue-migrate", connect_timeout=10)
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


async def refuse_pooler(database_url: str) -> None:
    """Raises TransactionPooling when a pooler hands statements to whichever backend is free; DatabaseUnavailable."""
    try:
        pooled = await pools_transactions(database_url)
    except psycopg.ProgrammingError:
        # An address that cannot be read, of which the connection made next says more.
        return
    except (psycopg.Error, TimeoutError) as error:
        raise _no_connection(error) from error
    if pooled:
        raise TransactionPooling(
            "the database is reached through a pooler in transaction or statement mode, under which "
            f"prepared statements, LISTEN and settings of a connection do not work. {ADVICE}"
        )


async def refuse_standby(connection: Connection) -> None:
    """Raises ReadOnly when the database takes no writes."""
    cursor = await connection.execute(statement("ping"))
    if await cursor.fetchone() != (True,):
        raise ReadOnly(
            "the database takes no writes: it is a standby, or default_transaction_read_only is on. Name the "
            "primary, or all hosts and target_session_attrs=read-write (docs/operating/failover.md)"
        )
