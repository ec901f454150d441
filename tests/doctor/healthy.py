"""Facts of a cluster that nothing is wrong with, for checks to be tried on."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from atlasqueue_server.domain.doctor import Facts, Finding, Level, diagnose
from atlasqueue_server.model.partitions import DAYS_AHEAD, partition_name
from atlasqueue_server.store.examine import (
    Configured,
    DatabaseFacts,
    Leader,
    Partitions,
    ReadyQueue,
    Schema,
    Server,
    Slot,
    Standby,
    Table,
    Transaction,
)

TODAY = date(2026, 3, 1)
DATABASE = DatabaseFacts("18.6", 180_006, False, "queue", "jobs", True, 1e9, 1000, 20, 97)
SERVER = Server("server-1", "10.0.0.1:7420", "1.0.0", 0.3, 2)
TRANSACTION = Transaction(71, "app", "psql", "10.0.0.9", "active", False, 0.1, 0.1, 3)
SLOT = Slot("standby_1", True, "reserved", None, 1024)
TABLE = Table("ready", 10, 5, 30.0, False)
DAYS = tuple(partition_name(TODAY + timedelta(days=n)) for n in range(DAYS_AHEAD))
HEALTHY = Facts(
    database=DATABASE,
    clock_offset_s=0.01,
    pooled=False,
    settings={
        name: Configured(value)
        for name, value in {
            "synchronous_commit": "on",
            "fsync": "on",
            "full_page_writes": "on",
            "autovacuum": "on",
            "track_counts": "on",
            "default_transaction_read_only": "off",
            "synchronous_standby_names": "standby_1",
            "idle_in_transaction_session_timeout": "300000",
            "max_wal_size": "4096",
            "hot_standby_feedback": "off",
        }.items()
    },
    transactions=[TRANSACTION],
    slots=[SLOT],
    prepared=[],
    standbys=[Standby("standby_1", "sync", None)],
    schema=Schema(3, 3, ()),
    tables=[TABLE],
    indexes=[],
    partitions=Partitions(DAYS, TODAY, {}),
    servers=[SERVER, SERVER._replace(server_id="server-2", address="10.0.0.2:7420")],
    leader=Leader("server-1", 7, 4.0, 0.5),
    queues=[ReadyQueue("mail", 12, False, 2)],
)


def wrong(**changes: Any) -> list[Finding]:
    """What the checks say of a healthy cluster but for the changes."""
    facts = replace(HEALTHY, **changes)
    return [one for one in diagnose(facts).findings if one.level is not Level.OK]


def only(**changes: Any) -> Finding:
    """The one finding on a healthy cluster but for the changes."""
    [finding] = wrong(**changes)
    return finding
