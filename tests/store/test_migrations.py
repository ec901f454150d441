"""Migrations: each once, in order, also when several servers start together."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.store import migrations
from atlasqueue_server.store.examine import Unseen, examine
from atlasqueue_server.store.fitness import ReadOnly, UnfitDatabase, WrongEncoding
from atlasqueue_server.store.jobs import get_jobs
from atlasqueue_server.store.migrations import (
    LOCK_KEY,
    Migration,
    SchemaTooNew,
    SchemaTooOld,
    check_schema,
    known_migrations,
    migrate,
    status,
)
from scripts import dump_schema
from tests.factories import Factory, execute, open_database
from tests.plugins.postgres import with_database, with_user
from tests.waiting import eventually

NAMES = [m.name for m in known_migrations()]
NEWEST = known_migrations()[-1].version


async def _rows(url: str, statement: str, **params: Any) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await execute(connection, statement, **params)


def test_numbers_have_no_gap() -> None:
    assert [m.version for m in known_migrations()] == list(range(1, NEWEST + 1))


async def test_concurrent_servers_apply_each_once(any_database_url: str) -> None:
    reports = await asyncio.gather(*(migrate(any_database_url) for _ in range(6)))
    assert sorted(report.applied for report in reports) == [[]] * 5 + [NAMES]
    assert {report.version for report in reports} == {NEWEST}
    rows = await _rows(
        any_database_url, "select version, name from atlasqueue.migrations order by 1"
    )
    assert rows == [(m.version, m.name) for m in known_migrations()]


async def test_waits_for_the_lock_without_a_snapshot(database_url: str) -> None:
    """A waiter that held a snapshot would block CREATE INDEX CONCURRENTLY for as long as it waits."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        await execute(other, "select pg_advisory_lock(%(key)s)", key=LOCK_KEY)
        migrating = asyncio.create_task(migrate(database_url))

        async def waits() -> list[tuple[Any, ...]]:
            return await execute(
                other,
                "select state, backend_xmin from pg_stat_activity"
                " where application_name = 'atlasqueue-migrate' and query like '%%try_advisory_lock%%'"
                " and state = 'idle'",
            )

        assert await eventually(waits) == [("idle", None)]
        assert not migrating.done()
        await execute(other, "select pg_advisory_unlock(%(key)s)", key=LOCK_KEY)
        assert (await migrating).applied == NAMES


async def test_says_once_that_it_waits(database_url: str) -> None:
    """How it showed: `atlasqueue-server migrate` said nothing for as long as another one held the lock."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        await execute(other, "select pg_advisory_lock(%(key)s)", key=LOCK_KEY)
        waits: list[str] = []
        waiting = asyncio.Event()

        def on_wait(why: str) -> None:
            waits.append(why)
            waiting.set()

        migrating = asyncio.create_task(migrate(database_url, on_wait=on_wait))
        await asyncio.wait_for(waiting.wait(), 30)
        await execute(other, "select pg_advisory_unlock(%(key)s)", key=LOCK_KEY)
        await migrating
        assert waits == ["waiting while another process migrates this database"]


async def test_again_changes_nothing(any_migrated_database_url: str) -> None:
    report = await migrate(any_migrated_database_url)
    assert (report.before, report.version, report.applied) == (NEWEST, NEWEST, [])
    assert await check_schema(any_migrated_database_url) == NEWEST


async def test_an_old_schema_is_refused_and_named(database_url: str) -> None:
    assert (await status(database_url)).pending == NAMES
    with pytest.raises(SchemaTooOld, match=r"0001_initial\.sql.*: run `atlasqueue-server migrate`"):
        await check_schema(database_url)


async def test_a_newer_schema_is_refused_and_left_alone(migrated_database_url: str) -> None:
    newer = "insert into atlasqueue.migrations (version, name) values (%(version)s, 'future')"
    await _rows(migrated_database_url, newer, version=NEWEST + 1)
    for act in (migrate, check_schema, status):
        with pytest.raises(SchemaTooNew, match="run a newer server"):
            await act(migrated_database_url)


async def test_a_database_that_takes_no_writes_is_refused(migrated_database_url: str) -> None:
    """How it showed: a server on a standby said that it serves, and migrate ended in a traceback."""
    name = urlsplit(migrated_database_url).path.lstrip("/")
    await _rows(
        migrated_database_url, f"alter database {name} set default_transaction_read_only = on"
    )
    for act in (migrate, check_schema):
        with pytest.raises(ReadOnly, match=r"takes no writes.*target_session_attrs=read-write"):
            await act(migrated_database_url)
    assert (await status(migrated_database_url)).pending == []


async def test_a_role_that_may_not_is_told_what_it_needs(
    database_url: str, migrated_database_url: str
) -> None:
    """How it showed: serve and migrate --status ended in a traceback."""
    role = f"r{secrets.token_hex(4)}"
    await _rows(database_url, f"create role {role} login password 's3cret'")
    try:
        for url, act, needs in (
            (database_url, migrate, "Grant it CREATE on the database"),
            (migrated_database_url, check_schema, "Grant it USAGE on schema atlasqueue"),
            (migrated_database_url, status, "Grant it USAGE on schema atlasqueue"),
        ):
            with pytest.raises(UnfitDatabase, match=f"role {role} may not do that: .*{needs}"):
                await act(with_user(url, role, "s3cret"))
    finally:
        await _rows(database_url, f"drop role {role}")


async def test_a_link_that_breaks_is_told(database_url: str) -> None:
    """How it showed: a restart of PostgreSQL under migrate ended in a traceback."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        await execute(other, "select pg_advisory_lock(%(key)s)", key=LOCK_KEY)
        migrating = asyncio.create_task(migrate(database_url))

        async def ended() -> list[tuple[Any, ...]]:
            return await execute(
                other,
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'atlasqueue-migrate' and datname = current_database()",
            )

        await eventually(ended)
        with pytest.raises(DatabaseUnavailable, match="broke off"):
            await migrating


# Some database or role somewhere has them.
HOSTILE = {
    "datestyle": "SQL, DMY",
    "client_encoding": "LATIN1",
    "statement_timeout": "'59s'",
    "lock_timeout": "'59s'",
    "idle_session_timeout": "'59s'",
    "default_transaction_isolation": "serializable",
    "timezone": "'America/New_York'",
    "search_path": "nowhere",
}


async def test_settings_of_the_database_do_not_count(
    any_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it showed: migrate, serve and doctor ended in tracebacks by DateStyle, an index took longer than the role's
    statement_timeout, and by client_encoding headers came back as other characters."""
    url, name = any_database_url, urlsplit(any_database_url).path[1:]
    for setting, value in HOSTILE.items():
        await _rows(url, f'alter database "{name}" set {setting} to {value}')
    seen = "create table atlasqueue.seen as select name, setting from pg_settings"
    known = [*known_migrations(), Migration(NEWEST + 1, "seen.sql", seen)]
    monkeypatch.setattr(migrations, "known_migrations", lambda: known)
    await migrate(url)
    assert await check_schema(url) == NEWEST + 1
    timeouts = await _rows(
        url,
        "select setting from atlasqueue.seen where name in ('lock_timeout', 'statement_timeout') order by name",
    )
    assert timeouts == [("1000",), ("0",)]

    facts = await examine(url, ["datestyle"])
    assert [it for it in (facts.schema, facts.partitions) if isinstance(it, Unseen)] == []

    async with open_database(url) as database:
        job = await Factory(database, "q").enqueue(kind="日本 é")
        [stored] = await get_jobs(database, "q", [job.job_id], whole=True)
        assert stored.kind == "日本 é"
        async with database.connection() as connection:
            found = await execute(
                connection, "select name, setting from pg_settings where source = 'session'"
            )
    assert {("idle_session_timeout", "0"), ("default_transaction_isolation", "read committed")} <= {
        *found
    }


async def test_only_a_database_of_utf8_is_taken(database_url: str) -> None:
    """How it showed: on SQL_ASCII servers said that they serve, and of each job that 10000 queues exist."""
    other = f"ascii_{secrets.token_hex(4)}"
    await _rows(
        database_url, f"create database {other} encoding 'SQL_ASCII' locale 'C' template template0"
    )
    try:
        url = with_database(database_url, other)
        for act in (migrate, check_schema, status):
            with pytest.raises(WrongEncoding, match=r"SQL_ASCII.*encoding 'UTF8' locale 'C'"):
                await act(url)
        assert (await examine(url, [])).database.encoding == "SQL_ASCII"
    finally:
        await _rows(database_url, f"drop database {other}")


async def test_a_migration_holds_up_nobody_while_it_waits(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it showed: with a dump running, migrate waited for its end, and all servers behind migrate."""
    await migrate(database_url)
    known = known_migrations()
    table = Migration(NEWEST + 1, "more.sql", "alter table atlasqueue.servers add column more int")
    monkeypatch.setattr(migrations, "known_migrations", lambda: [*known, table])
    monkeypatch.setattr(migrations, "LOCK_WAIT_S", 0.01)
    monkeypatch.setitem(migrations.SETTINGS, "lock_timeout", "10ms")
    waits = asyncio.Event()
    async with await psycopg.AsyncConnection.connect(database_url) as dump:
        await dump.execute("lock table atlasqueue.servers in access share mode")
        migrating = asyncio.create_task(migrate(database_url, lambda _why: waits.set()))
        await waits.wait()
        assert await _rows(database_url, "delete from atlasqueue.servers returning server_id") == []
        await dump.commit()
        assert (await migrating).applied == ["more.sql"]
        await _rows(database_url, f"delete from atlasqueue.migrations where version > {NEWEST}")
        await dump.execute("lock table atlasqueue.servers in access share mode")
        with pytest.raises(UnfitDatabase, match=r"more.sql changed nothing.*a dump maybe"):
            await migrate(database_url)


async def test_a_migration_that_fails_leaves_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rolls back whole, those before it stay, and the lock is free for the next try."""
    known = known_migrations()
    broken = Migration(NEWEST + 1, "broken.sql", "create table atlasqueue.half (); select 1 / 0")
    monkeypatch.setattr(migrations, "known_migrations", lambda: [*known, broken])
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await migrate(database_url)
        rows = await _rows(
            database_url,
            "select max(version), to_regclass('atlasqueue.half')::text from atlasqueue.migrations",
        )
        assert rows == [(NEWEST, None)]


async def test_a_dead_migrator_does_not_keep_the_lock(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as dead:
        await execute(dead, "select pg_advisory_lock(%(key)s)", key=LOCK_KEY)
        migrating = asyncio.create_task(migrate(database_url))
        pid = dead.info.backend_pid
        await _rows(database_url, "select pg_terminate_backend(%(pid)s)", pid=pid)
        assert (await migrating).applied == NAMES


async def test_schema_sql_is_the_sum_of_the_migrations(migrated_database_url: str) -> None:
    rows = await _rows(
        migrated_database_url, "select current_setting('server_version_num')::int / 10000"
    )
    if rows != [(18,)]:
        pytest.skip("schema.sql is dumped by PostgreSQL 18")
    text = await asyncio.to_thread(dump_schema.dump, migrated_database_url)
    assert dump_schema.SCHEMA.read_text("utf-8") == text


async def test_sequences_are_not_cached(any_migrated_database_url: str) -> None:
    """A cache would make the fences of one job fall, and put jobs behind the watermark."""
    rows = await _rows(
        any_migrated_database_url,
        "select sequencename, cache_size from pg_sequences where schemaname = 'atlasqueue' order by 1",
    )
    assert rows == [("fence_seq", 1), ("ready_seq", 1), ("session_seq", 1)]


async def test_every_table_of_jobs_is_led_by_its_queue(any_migrated_database_url: str) -> None:
    """So that the schema can be distributed by queue: each unique key begins with, or is, the queue."""
    rows = await _rows(
        any_migrated_database_url,
        """
        select c.relname, a.attname from pg_index i
        join pg_class c on c.oid = i.indrelid and c.relnamespace = 'atlasqueue'::regnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
        where i.indisunique and exists (
            select from pg_attribute q where q.attrelid = c.oid and q.attname = 'queue'
        )
        """,
    )
    assert rows
    assert {column for _, column in rows} == {"queue"}
