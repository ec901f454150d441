"""What /metrics tells of the database: queues, cluster, PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from atlasqueue_server.model import limits
from atlasqueue_server.store.database import Database

# Queues whose oldest ready job is looked up, and deltas that are read: more would take too long.
QUEUES_MAX = 100
DELTAS_MAX = 20_000


class QueueReading(NamedTuple):
    """A queue: jobs by state, and since when (s) its oldest ready job could have been leased."""

    name: str
    scheduled: int
    ready: int
    leased: int
    dead: int
    succeeded: int
    cancelled: int
    paused: bool
    oldest_ready_s: float
    estimated: bool


class ClusterReading(NamedTuple):
    """Leader, servers and sessions. `tick_age_s`: None before the first term."""

    leader: bool
    term: int
    tick_age_s: float | None
    servers: int
    streaming: int
    silent: int
    lost: int
    slots: int


class PostgresReading(NamedTuple):
    """PostgreSQL itself; None: there is none, or the role may not see it."""

    xmin_age: int | None
    oldest_transaction_s: float | None
    wal_bytes: int | None
    commits: int
    deadlocks: int
    connections: int
    connections_max: int
    database_bytes: int


class TableReading(NamedTuple):
    """Rows of a table."""

    name: str
    dead: int
    live: int


@dataclass(frozen=True, slots=True)
class Reading:
    """All of it."""

    queues: list[QueueReading]
    cluster: ClusterReading
    postgres: PostgresReading
    tables: list[TableReading]


async def observe(database: Database) -> Reading:
    """Reads it, in one round trip."""
    queues, cluster, postgres, tables = await database.run_together(
        [
            ("observe_queues", {"queues_max": QUEUES_MAX, "deltas_max": DELTAS_MAX}),
            ("observe_cluster", {"seen_within_s": limits.PRESENT_WITHIN_S}),
            ("observe_postgres", {}),
            ("observe_tables", {}),
        ]
    )
    return Reading(
        [QueueReading._make(row) for row in queues],
        ClusterReading._make(cluster[0]),
        PostgresReading._make(postgres[0]),
        [TableReading._make(row) for row in tables],
    )
