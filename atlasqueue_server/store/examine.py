"""Facts for `atlasqueue-server doctor`: what the database says of itself and of the cluster.

Reads only, each group of facts in a read-only transaction of its own, so that a role that may not see
everything still learns the rest. What could not be seen is an Unseen with the reason. No query text and no
payload is read.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, NamedTuple, TypeVar

import psycopg

from atlasqueue_server.store.database import Connection, connect, hung_up_after
from atlasqueue_server.store.fitness import connection_explained
from atlasqueue_server.store.migrations import known_migrations
from atlasqueue_server.store.pooler import pools_transactions
from atlasqueue_server.store.statements import statement

T = TypeVar("T")

ANSWER_S: Final = 15.0
TIMEOUT: Final = "10s"


class DatabaseFacts(NamedTuple):
    """The database and the role that looks. `connections` and its most count the whole PostgreSQL; those of
    the database and of the role are bounded by limits of their own, or by none."""

    version: str
    version_number: int
    standby: bool
    role: str
    name: str
    sees_all: bool
    clock_s: float
    frozen_age: int
    connections: int
    connections_max: int
    encoding: str = "UTF8"
    database_connections: int = 0
    database_connections_max: int | None = None
    role_connections: int = 0
    role_connections_max: int | None = None


class Transaction(NamedTuple):
    """A session in a transaction. `hidden`: the role may not see more than its transaction ids.

    xmin_age: in transactions, of the oldest row version that is kept for it; None: it keeps none.
    """

    pid: int
    role: str
    application: str
    client: str
    state: str | None
    hidden: bool
    transaction_s: float | None
    state_s: float | None
    xmin_age: int | None


class Configured(NamedTuple):
    """A setting of PostgreSQL. source: where it was made, in the words of pg_settings."""

    value: str
    source: str = "configuration file"


class Slot(NamedTuple):
    """A replication slot. xmin_age: in transactions; wal_bytes: kept for it."""

    name: str
    active: bool
    wal_status: str | None
    xmin_age: int | None
    wal_bytes: int | None


class Prepared(NamedTuple):
    """A prepared transaction and how long ago it was prepared."""

    gid: str
    role: str
    prepared_s: float


class Standby(NamedTuple):
    """A connected standby. `sync_state` is None for a role that may not see it."""

    name: str
    sync_state: str | None
    xmin_age: int | None


class Table(NamedTuple):
    """A table by PostgreSQL's statistics. vacuumed_s: since the last vacuum; None: never."""

    name: str
    live: int
    dead: int
    vacuumed_s: float | None
    vacuum_off: bool


class Index(NamedTuple):
    """An index that is not valid."""

    table: str
    name: str
    kept_up_to_date: bool


class Schema(NamedTuple):
    """The schema's version, the one that this program brings, and what was not applied."""

    version: int
    known: int
    pending: tuple[str, ...]


class Partitions(NamedTuple):
    """The tables of days of finished, today by the database, and jobs in the default partition by day."""

    existing: tuple[str, ...]
    today: date
    in_default: Mapping[date, int]


class Server(NamedTuple):
    """A server. seen_s: since it was last seen; clock_offset_ms: ahead of the database's clock."""

    server_id: str
    address: str
    version: str
    seen_s: float
    clock_offset_ms: int | None


class Leader(NamedTuple):
    """The leader's row. time_left_s: of its lease; ticked_s: since a leader last ticked."""

    holder: str
    term: int
    time_left_s: float
    ticked_s: float


class ReadyQueue(NamedTuple):
    """A queue with ready jobs and the number of live sessions that serve it."""

    queue: str
    ready: int
    paused: bool
    sessions: int


@dataclass(frozen=True, slots=True)
class Unseen:
    """Facts that could not be had, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was looked at. `clock_offset_s`: of this machine's clock, ahead of the database's."""

    database: DatabaseFacts
    clock_offset_s: float
    pooled: bool | Unseen
    settings: dict[str, Configured] | Unseen
    transactions: list[Transaction] | Unseen
    slots: list[Slot] | Unseen
    prepared: list[Prepared] | Unseen
    standbys: list[Standby] | Unseen
    schema: Schema | Unseen
    tables: list[Table] | Unseen
    indexes: list[Index] | Unseen
    partitions: Partitions | Unseen
    servers: list[Server] | Unseen
    leader: Leader | Unseen | None
    queues: list[ReadyQueue] | Unseen


async def examine(database_url: str, setting_names: list[str]) -> Facts:
    """Looks at everything once. Raises DatabaseUnavailable; UnfitDatabase for an unreadable address."""
    with connection_explained():
        async with await _connect(database_url) as connection:
            with hung_up_after(connection, 4 * ANSWER_S):
                return await _examine(connection, database_url, setting_names)


async def _connect(database_url: str) -> Connection:
    connection = await connect(database_url, "atlasqueue-doctor", prepare_threshold=None)
    # Of each transaction, not of the connection: a pooler may stand between.
    await connection.set_read_only(True)
    return connection


async def _examine(connection: Connection, url: str, setting_names: list[str]) -> Facts:
    async def rows(name: str, params: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        async with connection.transaction():
            setting = {"name": "statement_timeout", "setting": TIMEOUT}
            await connection.execute(statement("set_for_transaction"), setting)
            # In binary: as text a time looks as DateStyle says, and not all of its styles can be read.
            cursor = connection.cursor(binary=True)
            return await (await cursor.execute(statement(name), params)).fetchall()

    async def made(kind: Callable[[Any], T], name: str) -> list[T] | Unseen:
        return await _seen(_list(kind, rows(name)))

    (of_database,) = await rows("examine_database")
    database = DatabaseFacts._make(of_database)
    return Facts(
        database=database,
        clock_offset_s=time.time() - database.clock_s,
        pooled=await _seen(pools_transactions(url)),
        settings=await _seen(_settings(rows("examine_settings", {"names": setting_names}))),
        transactions=await made(Transaction._make, "examine_transactions"),
        slots=await made(Slot._make, "examine_slots"),
        prepared=await made(Prepared._make, "examine_prepared_transactions"),
        standbys=await made(Standby._make, "examine_standbys"),
        schema=await _seen(_schema(rows)),
        tables=await made(Table._make, "examine_tables"),
        indexes=await made(Index._make, "examine_indexes"),
        partitions=await _seen(_partitions(rows)),
        servers=await made(Server._make, "examine_servers"),
        leader=await _seen(_leader(rows("examine_leader"))),
        queues=await made(ReadyQueue._make, "examine_queues"),
    )


async def _seen(work: Awaitable[T]) -> T | Unseen:
    try:
        return await work
    except psycopg.OperationalError as error:
        # A link that broke says nothing of what was looked for, and takes the rest with it.
        if error.sqlstate is None:
            raise
        return Unseen(str(error).splitlines()[0])
    except (psycopg.Error, TimeoutError) as error:
        return Unseen((str(error) or type(error).__name__).splitlines()[0])


Rows = Awaitable[list[Any]]


async def _list(kind: Callable[[Any], T], rows: Rows) -> list[T]:
    return [kind(row) for row in await rows]


async def _settings(rows: Rows) -> dict[str, Configured]:
    return {name: Configured(value, source) for name, value, source in await rows}


async def _leader(rows: Rows) -> Leader | None:
    found = await rows
    return Leader._make(found[0]) if found else None


async def _schema(rows: Callable[[str], Rows]) -> Schema:
    ((migrated,),) = await rows("has_migrations")
    ((version,),) = await rows("get_schema_version") if migrated else ((0,),)
    known = known_migrations()
    pending = tuple(m.name for m in known if m.version > version)
    return Schema(version, known[-1].version, pending)


async def _partitions(rows: Callable[[str], Rows]) -> Partitions:
    found = await rows("list_finished_partitions")
    in_default: list[tuple[date, int]] = await rows("examine_default_finished")
    existing = tuple(row[0] for row in found if row[0])
    return Partitions(existing, found[0][1], dict(in_default))
