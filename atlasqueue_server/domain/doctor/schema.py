"""Checks of AtlasQueue's own tables: version, indexes, the days of finished."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from string import Template
from typing import Final

from atlasqueue_server.domain.doctor.findings import Finding, Level, check, number
from atlasqueue_server.model.partitions import DAYS_AHEAD, partition_name
from atlasqueue_server.store.examine import Facts, Index, Partitions, Schema


@check("schema", "schema")
def version(facts: Facts) -> Iterable[Finding]:
    """The schema is the one of this program."""
    assert isinstance(facts.schema, Schema)
    found = facts.schema
    if found.version > found.known:
        yield Finding(
            Level.PROBLEM,
            f"the schema is at version {found.version}, newer than this program knows ({found.known})",
            "servers of this version do not start on it",
            ("run the newer atlasqueue-server; schemas only go forward",),
        )
    elif found.version == 0:
        yield Finding(
            Level.PROBLEM,
            f"database {facts.database.name} has no schema of AtlasQueue",
            "servers do not start on it; or the address names another database than theirs",
            ("atlasqueue-server migrate",),
        )
    elif found.pending:
        yield Finding(
            Level.PROBLEM,
            f"the schema is at version {found.version} and lacks {', '.join(found.pending)}",
            "servers of this version do not start on it; older ones go on",
            ("atlasqueue-server migrate",),
        )


@check("indexes", "indexes")
def invalid_indexes(facts: Facts) -> Iterable[Finding]:
    """What a CREATE or REINDEX CONCURRENTLY that failed leaves behind."""
    assert isinstance(facts.indexes, list)
    for one in facts.indexes:
        leftover = "_ccnew" in one.name or "_ccold" in one.name
        yield Finding(
            Level.WARNING if leftover else Level.PROBLEM,
            f"index atlasqueue.{one.name} on {one.table} is invalid",
            _harm(one),
            (
                f"drop index concurrently atlasqueue.{one.name};"
                if leftover
                else f"reindex index concurrently atlasqueue.{one.name};",
            ),
        )


def _harm(one: Index) -> str:
    harm = "queries do not use it, so that a statement that needs it reads the whole table"
    return harm + (", while every write still pays for it" if one.kept_up_to_date else "")


@check("partitions", "partitions", "leader")
def partitions(facts: Facts) -> Iterable[Finding]:
    """Today and the days to come have a table, and nothing lies in the default one."""
    assert isinstance(facts.partitions, Partitions)
    found = facts.partitions
    for ahead in range(DAYS_AHEAD):
        day = found.today + timedelta(days=ahead)
        if partition_name(day) not in found.existing:
            yield _missing(day, found.in_default.get(day, 0), today=ahead == 0)
    if old := {day: jobs for day, jobs in found.in_default.items() if day < found.today}:
        yield Finding(
            Level.NOTE,
            f"{number(sum(old.values()))} finished jobs of {len(old)} past days lie in finished_default",
            "no table was there for their day; they are pruned by age all the same, row by row",
        )


def _missing(day: date, in_default: int, *, today: bool) -> Finding:
    name = f"atlasqueue.{partition_name(day)}"
    after = day + timedelta(days=1)
    bounds = f"('{day}T00:00:00Z') to ('{after}T00:00:00Z')"
    why = "jobs that finish then go to finished_default, from where they are pruned row by row"
    if not in_default:
        return Finding(
            Level.WARNING,
            f"the day {day} of finished has no partition",
            f"{why}. A leader makes the days ahead every 10 minutes: it may not own the table, or none leads",
            (
                f"as its owner: create table {name} partition of atlasqueue.finished for values from {bounds};",
                "and look for day_in_default_partition and errors of the loop partitions in the servers' logs",
            ),
        )
    return Finding(
        Level.WARNING,
        f"the day {day} of finished has no partition, and {number(in_default)} of its jobs lie in finished_default",
        f"{why}. It cannot be made while they lie there"
        + (" (jobs finish at this moment)" * today),
        (_move_out_of_default(day, after, name, bounds),),
    )


# For people to run: nothing here does.
MOVE_OUT_OF_DEFAULT: Final = Template("""
as its owner: begin; create table $name (like atlasqueue.finished including all);
lock table atlasqueue.finished_default;
with moved as (
delete from atlasqueue.finished_default
where finished_at >= '${day}T00:00:00Z' and finished_at < '${after}T00:00:00Z' returning *)
insert into $name select * from moved;
alter table atlasqueue.finished attach partition $name for values from $bounds; commit;
""")


def _move_out_of_default(day: date, after: date, name: str, bounds: str) -> str:
    text = MOVE_OUT_OF_DEFAULT.substitute(day=day, after=after, name=name, bounds=bounds)
    return " ".join(text.split())
