"""Checks of PostgreSQL itself: version, what stands before it, settings, connections, standbys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from atlasqueue_server.domain.doctor.findings import Finding, Level, check
from atlasqueue_server.store.examine import Facts
from atlasqueue_server.store.fitness import ENCODING, OF_ENCODING, OLDEST_POSTGRES
from atlasqueue_server.store.pooler import ADVICE

CONNECTIONS_WARN_SHARE: Final = 0.8
CONNECTIONS_FULL_SHARE: Final = 0.95
WAL_SMALL_MB: Final = 1024


@check("postgresql")
def postgresql(facts: Facts) -> Iterable[Finding]:
    """A version that works, a database that holds any text, and a primary."""
    database = facts.database
    if database.version_number < OLDEST_POSTGRES:
        yield Finding(
            Level.PROBLEM,
            f"PostgreSQL {database.version} is too old: 15 or newer is needed",
            "servers refuse to start on it",
            ("upgrade PostgreSQL with pg_upgrade, or pg_dump and pg_restore",),
        )
    if database.encoding != ENCODING:
        yield Finding(
            Level.PROBLEM,
            f"the encoding of database {database.name} is {database.encoding}",
            "it cannot hold every text that a job may: servers refuse to start on it",
            (f"make another one and migrate it: create database queue {OF_ENCODING};",),
        )
    if database.standby:
        yield Finding(
            Level.PROBLEM,
            "this is a standby: it can be read only",
            "servers need the primary; everything that changes a job is refused here",
            (
                "name all hosts and let the driver find the primary: "
                "postgresql://queue@one,two/queue?target_session_attrs=read-write",
                "if the primary is gone for good, promote this one: select pg_promote();",
            ),
        )


@check("pooler", "pooled")
def pooler(facts: Facts) -> Iterable[Finding]:
    """Nothing between that changes the backend below a connection."""
    if facts.pooled:
        yield Finding(
            Level.PROBLEM,
            "a pooler in transaction or statement mode stands before PostgreSQL",
            "prepared statements, LISTEN and settings of a connection do not work through it; servers "
            "refuse to start",
            (ADVICE,),
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that should have one of `good` values, best the first; `wrong` is what others mean."""

    good: tuple[str, ...]
    wrong: str


SETTINGS: Final[Mapping[str, Setting]] = {
    "synchronous_commit": Setting(
        # Stronger than on, and with a synchronous standby local is weaker: see standbys.
        ("on", "remote_apply", "remote_write", "local"),
        "a crash of PostgreSQL loses jobs that were acknowledged, and fences may be issued twice",
    ),
    "fsync": Setting(("on",), "a power cut may destroy the whole database"),
    "full_page_writes": Setting(
        ("on",), "a power cut may destroy pages, unless the file system never tears them"
    ),
    "autovacuum": Setting(
        ("on",),
        "dead rows are never removed: every lease has to step over them, and gets slower for ever",
    ),
    "track_counts": Setting(
        ("on",), "autovacuum does not learn where dead rows are, and does nothing"
    ),
    "default_transaction_read_only": Setting(("off",), "whatever changes a job is refused"),
    "synchronous_standby_names": Setting((), ""),
    "idle_in_transaction_session_timeout": Setting((), ""),
    "max_wal_size": Setting((), ""),
    "hot_standby_feedback": Setting((), ""),
}


def _remedy(facts: Facts, name: str, value: str) -> str:
    """How to give a setting another value: there where it was made, for there it wins."""
    assert isinstance(facts.settings, dict)
    source, role = facts.settings[name].source, f'role "{facts.database.role}"'
    in_database = f'database "{facts.database.name}"'
    made_for = {
        "global": "role all",
        "user": role,
        "database": in_database,
        "database user": f"{role} in {in_database}",
    }
    if source in made_for:
        alter = f"alter {made_for[source]} reset {name};"
        if name == "default_transaction_read_only":
            # It refuses its own end otherwise.
            alter = f"begin read write; {alter} commit;"
        return f"{alter} then restart the servers"
    if source == "client":
        return f"take {name} out of the options of database_url, or of PGOPTIONS; then restart the servers"
    if source == "command line":
        return f"take {name} out of the command line that starts PostgreSQL, and restart it"
    return f"alter system set {name} = {value}; select pg_reload_conf();"


@check("settings", "settings")
def settings(facts: Facts) -> Iterable[Finding]:
    """Settings under which the promise does not hold, or holds slowly."""
    assert isinstance(facts.settings, dict)
    for name, found in facts.settings.items():
        setting = SETTINGS[name]
        if setting.good and found.value not in setting.good:
            best = setting.good[0]
            yield Finding(
                Level.PROBLEM,
                f"{name} is {found.value}",
                setting.wrong,
                (_remedy(facts, name, f"'{best}'" if " " in best else best),),
            )
    yield from _worth_a_note(facts)


def _value(facts: Facts, name: str) -> str:
    assert isinstance(facts.settings, dict)
    return facts.settings[name].value if name in facts.settings else ""


def _worth_a_note(facts: Facts) -> Iterable[Finding]:
    if _value(facts, "idle_in_transaction_session_timeout") == "0":
        yield Finding(
            Level.NOTE,
            "idle_in_transaction_session_timeout is not set",
            "a program that forgets an open transaction keeps dead rows from being removed until "
            "somebody looks (servers set it for themselves)",
            (_remedy(facts, "idle_in_transaction_session_timeout", "'5min'"),),
        )
    if 0 < int(_value(facts, "max_wal_size") or 0) < WAL_SMALL_MB:
        yield Finding(
            Level.NOTE,
            f"max_wal_size is {_value(facts, 'max_wal_size')} MB",
            "under load a checkpoint comes every few seconds, and each is felt in latency",
            (_remedy(facts, "max_wal_size", "'4GB'"),),
        )


@check("connections")
def connections(facts: Facts) -> Iterable[Finding]:
    """Room for more, under each of three limits."""
    of = facts.database
    raising = "connection limit 50; (or -1: none)"
    rooms = (
        ("PostgreSQL", of.connections, of.connections_max, "max_connections (needs a restart)"),
        (
            *(f"database {of.name}", of.database_connections, of.database_connections_max),
            f'its limit: alter database "{of.name}" {raising}',
        ),
        (
            *(f"role {of.role}", of.role_connections, of.role_connections_max),
            f'its limit: alter role "{of.role}" {raising}',
        ),
    )
    for whose, taken, most, limit in rooms:
        if most is None or taken < CONNECTIONS_WARN_SHARE * most:
            continue
        full = taken >= CONNECTIONS_FULL_SHARE * most
        yield Finding(
            Level.PROBLEM if full else Level.WARNING,
            f"{taken} of {most} connections of {whose} are taken",
            "a server that gets none answers UNAVAILABLE; a rolling upgrade needs room for both",
            (
                "see who has them: select usename, application_name, count(*) from pg_stat_activity "
                "group by 1, 2 order by 3 desc;",
                f"lower database_pool_max of the servers, or raise {limit}",
            ),
        )


@check("synchronous standby", "settings", "standbys")
def synchronous_standby(facts: Facts) -> Iterable[Finding]:
    """One is there if commits wait for one, and they wait for it if there is one."""
    assert isinstance(facts.standbys, list)
    wanted = _value(facts, "synchronous_standby_names")
    hidden = any(one.sync_state is None for one in facts.standbys)
    if not wanted or hidden:
        return
    if not any(one.sync_state in ("sync", "quorum") for one in facts.standbys):
        yield Finding(
            Level.PROBLEM,
            f"no standby of synchronous_standby_names ({wanted}) is connected",
            "every commit waits for it: calls hang and end with UNAVAILABLE",
            (
                "bring the standby back, or go on without one, which a failover may then lose jobs by: "
                "alter system reset synchronous_standby_names; select pg_reload_conf();",
            ),
        )
    elif (mode := _value(facts, "synchronous_commit")) in ("local", "remote_write"):
        yield Finding(
            Level.WARNING,
            f"synchronous_commit is {mode} although there is a synchronous standby",
            "a failover may lose jobs that were acknowledged",
            (_remedy(facts, "synchronous_commit", "on"),),
        )
