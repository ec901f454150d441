"""Checks of what keeps dead rows from being removed, and of dead rows.

A queue makes dead rows all day. PostgreSQL removes those that no snapshot can see any more; the oldest snapshot
of anybody in this database is the bound (its xmin). One forgotten transaction keeps all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from atlasqueue_server.domain.doctor.findings import Finding, Level, check, number, size, span
from atlasqueue_server.store.examine import Facts, Table, Transaction

# Well-behaved programs are never idle in a transaction for so long.
IDLE_S: Final = 2.0
LONG_S: Final = 60.0
VERY_LONG_S: Final = 600.0
OLD_XMIN: Final = 1_000_000
SLOT_WAL_BYTES: Final = 1024**3
DEAD_ROWS: Final = 200_000
WRAPAROUND_AGE: Final = 1_000_000_000

WHY: Final = (
    "dead rows that are younger than its snapshot cannot be removed by vacuum: tables grow and leases "
    "slow down"
)
WHY_LOCKS: Final = "it keeps its locks, and from its next statement on keeps dead rows from being removed by vacuum"
IDLE: Final = ("idle in transaction", "idle in transaction (aborted)")


def _who(one: Transaction) -> str:
    return f"session {one.pid} ({one.application or 'no application_name'}, role {one.role}, from {one.client})"


def _level(seconds: float) -> Level:
    return Level.PROBLEM if seconds >= VERY_LONG_S else Level.WARNING


@check("idle in transaction", "transactions")
def idle_in_transaction(facts: Facts) -> Iterable[Finding]:
    """Sessions that opened a transaction and went away."""
    assert isinstance(facts.transactions, list)
    yield from _hidden(facts, facts.transactions)
    for one in facts.transactions:
        if one.state not in IDLE or one.state_s is None or one.state_s < IDLE_S:
            continue
        yield Finding(
            _level(one.state_s),
            f"{_who(one)} has been idle in a transaction for {span(one.state_s)}",
            WHY if one.xmin_age is not None else WHY_LOCKS,
            (
                f"select pg_terminate_backend({one.pid});",
                "and so that it cannot come again: alter role "
                f"\"{one.role}\" set idle_in_transaction_session_timeout = '1min';",
            ),
        )


@check("long transactions", "transactions")
def long_transactions(facts: Facts) -> Iterable[Finding]:
    """Statements and transactions that run for long with a snapshot."""
    assert isinstance(facts.transactions, list)
    for one in facts.transactions:
        if one.state in IDLE or one.xmin_age is None or (one.transaction_s or 0) < LONG_S:
            continue
        assert one.transaction_s is not None
        yield Finding(
            _level(one.transaction_s),
            f"{_who(one)} has been in a transaction for {span(one.transaction_s)}",
            WHY,
            (
                "let it end if it is a backup or CREATE INDEX (run those on a standby, or at a quiet hour); "
                f"or end its statement: select pg_cancel_backend({one.pid});",
            ),
        )
    for one in facts.transactions:
        if one.hidden and one.xmin_age is not None and one.xmin_age >= OLD_XMIN:
            yield Finding(
                Level.WARNING,
                f"session {one.pid} of role {one.role} keeps rows since {number(one.xmin_age)} transactions",
                WHY,
                (f"as a role that may: select pg_terminate_backend({one.pid});",),
            )
    yield from _hidden(facts, facts.transactions)


def _hidden(facts: Facts, transactions: list[Transaction]) -> Iterable[Finding]:
    hidden = sum(one.hidden for one in transactions)
    if hidden and not facts.database.sees_all:
        yield Finding(
            Level.UNSEEN,
            f"role {facts.database.role} may not see what {hidden} sessions of other roles do",
            "one of them may keep dead rows from being removed",
            (f'grant pg_read_all_stats to "{facts.database.role}";',),
        )


@check("prepared transactions", "prepared")
def prepared_transactions(facts: Facts) -> Iterable[Finding]:
    """Halves of two-phase commits that nobody ended. They outlive even a restart."""
    assert isinstance(facts.prepared, list)
    for one in facts.prepared:
        if one.prepared_s < LONG_S:
            continue
        gid = one.gid.replace("'", "''")
        yield Finding(
            _level(one.prepared_s),
            f"transaction '{one.gid}' of role {one.role} was prepared {span(one.prepared_s)} ago and never ended",
            f"{WHY}. A restart does not end it",
            (
                f"rollback prepared '{gid}'; (or commit prepared, as its transaction manager decided)",
            ),
        )


@check("replication slots", "slots")
def replication_slots(facts: Facts) -> Iterable[Finding]:
    """Slots whose reader is gone: they keep WAL, and maybe rows, for ever."""
    assert isinstance(facts.slots, list)
    for one in facts.slots:
        keeps = [f"{size(one.wal_bytes)} of WAL"] if one.wal_bytes else []
        if one.xmin_age:
            keeps.append(f"rows since {number(one.xmin_age)} transactions")
        if one.active and (one.xmin_age or 0) < OLD_XMIN and (one.wal_bytes or 0) < SLOT_WAL_BYTES:
            continue
        state = "is far behind" if one.active else "has no reader"
        yield Finding(
            Level.PROBLEM if one.wal_status in ("unreserved", "lost") else Level.WARNING,
            f"replication slot {one.name} {state}"
            + (f" and keeps {', '.join(keeps)}" * bool(keeps)),
            "what a slot keeps grows until its reader comes back, and can fill the disk",
            (
                "bring its standby or subscriber back, or if it is gone for good: "
                f"select pg_drop_replication_slot('{one.name}');",
                "and bound what a slot may keep: alter system set max_slot_wal_keep_size = '20GB'; "
                "select pg_reload_conf();",
            ),
        )


@check("standby snapshots", "standbys")
def standby_snapshots(facts: Facts) -> Iterable[Finding]:
    """Standbys with hot_standby_feedback pass the snapshots of their own sessions on."""
    assert isinstance(facts.standbys, list)
    for one in facts.standbys:
        if (one.xmin_age or 0) >= OLD_XMIN:
            yield Finding(
                Level.WARNING,
                f"standby {one.name} asks for rows since {number(one.xmin_age or 0)} transactions",
                "a long query there keeps dead rows here (hot_standby_feedback)",
                (
                    "end that query on the standby, or there: alter system set hot_standby_feedback = off; "
                    "select pg_reload_conf();",
                ),
            )


@check("dead rows", "tables")
def dead_rows(facts: Facts) -> Iterable[Finding]:
    """Tables that vacuum does not keep up with, or may not enter."""
    assert isinstance(facts.tables, list)
    for table in facts.tables:
        if table.vacuum_off:
            yield Finding(
                Level.PROBLEM,
                f"autovacuum is off for atlasqueue.{table.name}",
                "its dead rows are never removed",
                (f"as its owner: alter table atlasqueue.{table.name} reset (autovacuum_enabled);",),
            )
        elif table.dead > max(DEAD_ROWS, table.live):
            yield _many_dead(table)


def _many_dead(table: Table) -> Finding:
    ago = f"{span(table.vacuumed_s)} ago" if table.vacuumed_s is not None else "never"
    return Finding(
        Level.WARNING,
        f"atlasqueue.{table.name} has {number(table.dead)} dead rows beside {number(table.live)} live ones "
        f"(last vacuum: {ago})",
        "vacuum is kept from removing them by what stands above, or does not keep up",
        (
            "end what the checks above name; if there is nothing: "
            f"vacuum (verbose) atlasqueue.{table.name};",
        ),
    )


@check("transaction ids")
def transaction_ids(facts: Facts) -> Iterable[Finding]:
    """Far from the end of the numbers."""
    if facts.database.frozen_age >= WRAPAROUND_AGE:
        yield Finding(
            Level.PROBLEM,
            f"the oldest transaction of this database is {number(facts.database.frozen_age)} transactions old",
            "at about 2 100 000 000 PostgreSQL takes no more writes",
            ("end what holds rows (above), then: vacuum (freeze, verbose);",),
        )
