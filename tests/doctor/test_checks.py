"""Every check on facts made by hand: what it says, how bad it is, and that the remedy is there to copy."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from atlasqueue_server.doctor_report import exit_code, to_json, to_text
from atlasqueue_server.domain.doctor import Level, diagnose
from atlasqueue_server.domain.doctor.findings import CHECKS, size, span
from atlasqueue_server.store.examine import (
    Configured,
    Index,
    Leader,
    Partitions,
    Prepared,
    ReadyQueue,
    Schema,
    Standby,
    Unseen,
)
from tests.docs.pages import ROOT
from tests.doctor.healthy import (
    DATABASE,
    DAYS,
    HEALTHY,
    SERVER,
    SLOT,
    TABLE,
    TODAY,
    TRANSACTION,
    only,
    wrong,
)

PROBLEM, WARNING, NOTE, UNSEEN = Level.PROBLEM, Level.WARNING, Level.NOTE, Level.UNSEEN
GIB = 1024**3


def settings(source: str = "configuration file", **changes: str) -> dict[str, Any]:
    """Healthy settings but for the changes, which were made there."""
    assert isinstance(HEALTHY.settings, dict)
    changed = {name: Configured(value, source) for name, value in changes.items()}
    return {"settings": HEALTHY.settings | changed}


def idle(**changes: Any) -> dict[str, Any]:
    """A session idle in a transaction."""
    one = TRANSACTION._replace(state="idle in transaction", state_s=5.0)._replace(**changes)
    return {"transactions": [one]}


def old_server(**changes: Any) -> dict[str, Any]:
    """Two servers, one of them with the changes."""
    return {"servers": [SERVER, SERVER._replace(server_id="server-2", **changes)]}


def test_nothing_is_said_of_a_healthy_cluster() -> None:
    diagnosis = diagnose(HEALTHY)
    assert wrong() == []
    assert exit_code(diagnosis) == 0
    assert to_text(diagnosis).endswith("Nothing is wrong.")
    assert {f.check for f in diagnosis.findings} == {one.name for one in CHECKS}


@pytest.mark.parametrize(
    ("changes", "level", "found", "remedy"),
    [
        (
            {"database": DATABASE._replace(version="14.9", version_number=140_009)},
            PROBLEM,
            "PostgreSQL 14.9 is too old",
            "pg_upgrade",
        ),
        (
            {"database": DATABASE._replace(standby=True)},
            PROBLEM,
            "this is a standby",
            "target_session_attrs=read-write",
        ),
        (
            {"database": DATABASE._replace(encoding="SQL_ASCII")},
            PROBLEM,
            "the encoding of database jobs is SQL_ASCII",
            "encoding 'UTF8' locale 'C' template template0",
        ),
        (
            {"database": DATABASE._replace(role_connections=12, role_connections_max=14)},
            WARNING,
            "12 of 14 connections of role queue are taken",
            'alter role "queue" connection limit',
        ),
        (
            {"database": DATABASE._replace(database_connections=3, database_connections_max=3)},
            PROBLEM,
            "3 of 3 connections of database jobs are taken",
            'alter database "jobs" connection limit',
        ),
        ({"pooled": True}, PROBLEM, "a pooler in transaction", "pool_mode = session"),
        (settings(fsync="off"), PROBLEM, "fsync is off", "alter system set fsync = on"),
        (settings(synchronous_commit="off"), PROBLEM, "synchronous_commit is off", "= on"),
        (settings(autovacuum="off"), PROBLEM, "autovacuum is off", "set autovacuum = on"),
        (settings(track_counts="off"), PROBLEM, "track_counts is off", "set track_counts = on"),
        (settings(full_page_writes="off"), PROBLEM, "full_page_writes is off", "= on"),
        (
            settings("database", default_transaction_read_only="on"),
            PROBLEM,
            "default_transaction_read_only is on",
            'begin read write; alter database "jobs" reset default_transaction_read_only; commit;',
        ),
        (
            settings("user", synchronous_commit="off"),
            PROBLEM,
            "synchronous_commit is off",
            'alter role "queue" reset synchronous_commit; then restart the servers',
        ),
        (
            settings("database user", synchronous_commit="off"),
            PROBLEM,
            "synchronous_commit is off",
            'alter role "queue" in database "jobs" reset synchronous_commit;',
        ),
        (
            settings("client", synchronous_commit="off"),
            PROBLEM,
            "synchronous_commit is off",
            "take synchronous_commit out of the options of database_url",
        ),
        (
            settings("command line", fsync="off"),
            PROBLEM,
            "fsync is off",
            "take fsync out of the command line",
        ),
        (
            settings(idle_in_transaction_session_timeout="0"),
            NOTE,
            "idle_in_transaction_session_timeout is not set",
            "'5min'",
        ),
        (settings(max_wal_size="512"), NOTE, "max_wal_size is 512 MB", "'4GB'"),
        (
            settings(synchronous_commit="local"),
            WARNING,
            "synchronous_commit is local although there is a synchronous standby",
            "= on",
        ),
        (
            {"standbys": [Standby("other", "async", None)]},
            PROBLEM,
            "no standby of synchronous_standby_names (standby_1) is connected",
            "alter system reset synchronous_standby_names",
        ),
        (
            {"database": DATABASE._replace(connections=80)},
            WARNING,
            "80 of 97 connections",
            "database_pool_max",
        ),
        ({"database": DATABASE._replace(connections=96)}, PROBLEM, "96 of 97", "max_connections"),
        (
            idle(),
            WARNING,
            "session 71 (psql, role app, from 10.0.0.9) has been idle in a transaction for 5.0 s",
            "select pg_terminate_backend(71);",
        ),
        (idle(state_s=900.0), PROBLEM, "for 15 min", "select pg_terminate_backend(71);"),
        (
            {"transactions": [TRANSACTION._replace(transaction_s=90.0)]},
            WARNING,
            "has been in a transaction for 1 min 30 s",
            "select pg_cancel_backend(71);",
        ),
        (
            {"prepared": [Prepared("it's", "app", 4000.0)]},
            PROBLEM,
            "transaction 'it's' of role app was prepared 1 h 6 min ago",
            "rollback prepared 'it''s';",
        ),
        (
            {"slots": [SLOT._replace(active=False, xmin_age=5000)]},
            WARNING,
            "replication slot standby_1 has no reader and keeps 1 KiB of WAL, rows since 5 000",
            "select pg_drop_replication_slot('standby_1');",
        ),
        (
            {"slots": [SLOT._replace(wal_bytes=3 * GIB)]},
            WARNING,
            "replication slot standby_1 is far behind and keeps 3 GiB of WAL",
            "max_slot_wal_keep_size",
        ),
        (
            {"slots": [SLOT._replace(active=False, wal_status="lost", wal_bytes=None)]},
            PROBLEM,
            "replication slot standby_1 has no reader",
            "pg_drop_replication_slot",
        ),
        (
            {"standbys": [Standby("standby_1", "sync", 2_000_000)]},
            WARNING,
            "standby standby_1 asks for rows since 2 000 000 transactions",
            "hot_standby_feedback",
        ),
        (
            {"tables": [TABLE._replace(dead=300_000, vacuumed_s=None)]},
            WARNING,
            "atlasqueue.ready has 300 000 dead rows beside 10 live ones (last vacuum: never)",
            "vacuum (verbose) atlasqueue.ready;",
        ),
        (
            {"tables": [TABLE._replace(vacuum_off=True)]},
            PROBLEM,
            "autovacuum is off for atlasqueue.ready",
            "reset (autovacuum_enabled)",
        ),
        (
            {"database": DATABASE._replace(frozen_age=1_500_000_000)},
            PROBLEM,
            "1 500 000 000 transactions old",
            "vacuum (freeze, verbose);",
        ),
        ({"schema": Schema(2, 3, ("0003_x.sql",))}, PROBLEM, "lacks 0003_x.sql", "migrate"),
        ({"schema": Schema(4, 3, ())}, PROBLEM, "newer than this program knows (3)", "newer"),
        (
            {"indexes": [Index("ready", "ready_lease", True)]},
            PROBLEM,
            "index atlasqueue.ready_lease on ready is invalid",
            "reindex index concurrently atlasqueue.ready_lease;",
        ),
        (
            {"indexes": [Index("ready", "ready_lease_ccnew", True)]},
            WARNING,
            "ready_lease_ccnew",
            "drop index concurrently atlasqueue.ready_lease_ccnew;",
        ),
        (
            {"partitions": Partitions(DAYS[:2], TODAY, {})},
            WARNING,
            "the day 2026-03-03 of finished has no partition",
            "create table atlasqueue.finished_20260303 partition of atlasqueue.finished",
        ),
        (
            {"partitions": Partitions(DAYS[1:], TODAY, {TODAY: 40})},
            WARNING,
            "the day 2026-03-01 of finished has no partition, and 40 of its jobs",
            "attach partition atlasqueue.finished_20260301",
        ),
        (old_server(seen_s=17.0), WARNING, "was last heard 17 s ago", "log"),
        (old_server(version="0.9.0"), WARNING, "servers of 2 versions", "upgrade.md"),
        (
            {"leader": Leader("server-1", 7, -3.0, 4.0)},
            PROBLEM,
            "no server leads; the last tick was 4.0 s ago",
            "leadership_taken",
        ),
        ({"leader": None}, PROBLEM, "no server leads", "leadership_taken"),
        (
            {"leader": Leader("server-1", 7, 4.0, 61.0)},
            PROBLEM,
            "server-1 leads (term 7) but has not ticked for 1 min 1 s",
            "restart it",
        ),
        (
            old_server(clock_offset_ms=-90_000),
            WARNING,
            "the clock of server server-2 at 10.0.0.1:7420 is 1 min 30 s behind the database's",
            "timedatectl",
        ),
        ({"clock_offset_s": 7.0}, NOTE, "the clock of this machine is 7.0 s ahead", "timedatectl"),
        (
            {"queues": [ReadyQueue("mail", 1, False, 0)]},
            WARNING,
            "queue mail has 1 ready job, and no worker serves it",
            "--queues mail",
        ),
        (
            {"queues": [ReadyQueue("mail", 1200, True, 0)]},
            NOTE,
            "queue mail is paused with 1 200 ready jobs",
            "/v1/queues/mail:resume",
        ),
    ],
)
def test_a_check(changes: dict[str, Any], level: Level, found: str, remedy: str) -> None:
    finding = only(**changes)
    assert finding.level is level, finding
    assert found in finding.found
    assert finding.why
    assert remedy in "\n".join(finding.remedy)
    diagnosis = diagnose(replace(HEALTHY, **changes))
    assert exit_code(diagnosis) == {PROBLEM: 2, WARNING: 1}.get(level, 0)
    assert remedy in to_text(diagnosis)
    document = json.loads(to_json(diagnosis))
    assert document["exit_code"] == exit_code(diagnosis)
    assert {"check", "level", "found", "why", "remedy"} == set(document["findings"][0])


@pytest.mark.parametrize(
    "changes",
    [
        idle(state_s=1.0),
        {"transactions": [TRANSACTION._replace(transaction_s=3600.0, xmin_age=None)]},
        {"prepared": [Prepared("young", "app", 3.0)]},
        {"tables": [TABLE._replace(live=10_000_000, dead=300_000)]},
        {"standbys": [Standby("standby_1", None, None)]},
        {"standbys": [], **settings(synchronous_standby_names="")},
        old_server(clock_offset_ms=None),
    ],
)
def test_what_is_no_fault(changes: dict[str, Any]) -> None:
    assert wrong(**changes) == []


def test_no_server_is_said_once() -> None:
    assert "no server runs" in only(servers=[], leader=None).found


def test_a_database_without_schema_is_said_once() -> None:
    missing = Unseen('relation "atlasqueue.servers" does not exist')
    schema = Schema(0, 3, ("0001_initial.sql",))
    facts = replace(HEALTHY, schema=schema, servers=missing, leader=missing, queues=missing)
    text = to_text(diagnose(facts))
    assert "do   atlasqueue-server migrate" in text
    assert text.count("there is no schema of AtlasQueue to look at") == 1


def test_what_a_role_may_not_see_is_said_with_the_grant_and_is_no_fault() -> None:
    denied = Unseen("permission denied for schema atlasqueue")
    findings = wrong(servers=denied, leader=denied, queues=denied)
    assert {f.level for f in findings} == {UNSEEN}
    assert {"servers", "leader", "queues"} <= {f.check for f in findings}
    diagnosis = diagnose(replace(HEALTHY, servers=denied, leader=denied, queues=denied))
    assert exit_code(diagnosis) == 0
    assert 'grant select on all tables in schema atlasqueue to "queue";' in to_text(diagnosis)
    hidden = TRANSACTION._replace(hidden=True, state=None, state_s=None, transaction_s=None)
    blind = DATABASE._replace(sees_all=False)
    for finding in wrong(database=blind, transactions=[hidden]):
        assert finding.level is UNSEEN
        assert finding.remedy == ('grant pg_read_all_stats to "queue";',)
    levels = {
        f.level for f in wrong(database=blind, transactions=[hidden._replace(xmin_age=5_000_000)])
    }
    assert levels == {UNSEEN, WARNING}


def test_jobs_of_past_days_in_the_default_partition_are_a_note() -> None:
    yesterday = TODAY - timedelta(days=1)
    assert only(partitions=Partitions(DAYS, TODAY, {yesterday: 3})).level is NOTE


def test_the_manual_has_every_check() -> None:
    page = (ROOT / "docs" / "operating" / "doctor.md").read_text("utf-8")
    for one in CHECKS:
        assert f"| {one.name} |" in page


def test_spans_and_sizes() -> None:
    assert [span(s) for s in (0.25, 59, 60, 3_780, 90_000)] == [
        "0.2 s",
        "59 s",
        "1 min",
        "1 h 3 min",
        "1 d 1 h",
    ]
    assert [size(n) for n in (10, 2048, 5 * GIB, 3000 * GIB)] == [
        "10 B",
        "2 KiB",
        "5 GiB",
        "2.9 TiB",
    ]
