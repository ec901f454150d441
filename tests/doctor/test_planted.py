"""`atlasqueue-server doctor` on a real PostgreSQL with planted faults: it finds each, and its remedy works."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from atlasqueue import AsyncClient, NewJob
from atlasqueue_server.model.partitions import DAYS_AHEAD, partition_name
from tests.factories import execute
from tests.plugins.pgbouncer import MISSING, PROGRAM, pgbouncer
from tests.plugins.server import ServerFactory
from tests.waiting import eventually

# The tests' own PostgreSQL runs with what is too fast to be safe.
OF_THE_TESTS = {"fsync is off", "full_page_writes is off"}
Found = list[dict[str, Any]]


async def run(url: str, *options: str) -> tuple[int, str, str]:
    """The command's exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "atlasqueue_server",
        "doctor",
        "--database-url",
        url,
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def findings(url: str) -> Found:
    """What the command finds, beside what the tests' PostgreSQL does on purpose."""
    _, out, err = await run(url, "-o", "json")
    assert not err
    found = json.loads(out)["findings"]
    return [
        f
        for f in found
        if f["level"] in ("problem", "warning", "unseen") and f["found"] not in OF_THE_TESTS
    ]


async def connect(url: str) -> psycopg.AsyncConnection[tuple[Any, ...]]:
    """An operator's connection."""
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


async def days_are_made(operator: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
    """Waits until the leader has made the days ahead."""

    async def made() -> bool:
        rows = await execute(
            operator,
            "select count(*) from pg_inherits where inhparent = 'atlasqueue.finished'::regclass",
        )
        return rows == [(1 + DAYS_AHEAD,)]

    await eventually(made)


async def test_planted_faults_are_found_and_their_remedies_work(
    any_migrated_database_url: str, start_server: ServerFactory
) -> None:
    url = any_migrated_database_url
    await start_server(url)
    async with await connect(url) as operator:
        await days_are_made(operator)
        assert await findings(url) == []

        # A session that wrote and went away.
        idle = await psycopg.AsyncConnection.connect(url, application_name="forgetful")
        await idle.execute("select pg_current_xact_id()")
        # What a CREATE INDEX CONCURRENTLY that was cancelled leaves behind.
        await execute(operator, "create index spare on atlasqueue.ready (job_id)")
        await execute(
            operator,
            "update pg_index set indisvalid = false where indexrelid = 'atlasqueue.spare'::regclass",
        )
        ((today,),) = await execute(operator, "select (now() at time zone 'utc')::date")
        last = partition_name(today + timedelta(days=DAYS_AHEAD - 1))
        await operator.execute(sql.SQL("drop table {}").format(sql.Identifier("atlasqueue", last)))

        async def all_three() -> Found:
            found = await findings(url)
            return found if len(found) == 3 else []

        by_check = {f["check"]: f for f in await eventually(all_three)}
        assert set(by_check) == {"idle in transaction", "indexes", "partitions"}
        assert "forgetful" in by_check["idle in transaction"]["found"]
        terminate, _ = by_check["idle in transaction"]["remedy"]
        assert terminate == f"select pg_terminate_backend({idle.info.backend_pid});"
        [reindex] = by_check["indexes"]["remedy"]
        assert reindex == "reindex index concurrently atlasqueue.spare;"
        create = by_check["partitions"]["remedy"][0].removeprefix("as its owner: ")
        assert f"create table atlasqueue.{last} partition of" in create

        for remedy in (terminate, create, reindex):
            await operator.execute(remedy.encode())
        assert await findings(url) == []
        await idle.close()


async def test_a_day_whose_jobs_lie_in_the_default_partition_is_moved(
    any_migrated_database_url: str,
) -> None:
    url = any_migrated_database_url
    async with await connect(url) as operator:
        await execute(
            operator,
            "insert into atlasqueue.finished (job_id, fence, deliveries, attempt, crashes, state, queue)"
            " select gen_random_uuid(), n, 1, 0, 0, 's', 'q' from generate_series(1, 5) n",
        )
        of_today = [f for f in await findings(url) if "5 of its jobs" in f["found"]]
        [move] = of_today[0]["remedy"]
        await operator.execute(move.removeprefix("as its owner: ").encode())
        rows = await execute(
            operator,
            "select (select count(*) from atlasqueue.finished),"
            " (select count(*) from atlasqueue.finished_default)",
        )
        assert rows == [(5, 0)]
        assert not [f for f in await findings(url) if "of its jobs" in f["found"]]


async def test_prepared_transactions_slots_and_settings_of_the_role_are_seen(
    migrated_database_url: str,
) -> None:
    """The role of this test's own connection commits asynchronously."""
    role, password = f"r{secrets.token_hex(4)}", "s3cret"
    async with await connect(migrated_database_url) as operator:
        await operator.execute(
            sql.SQL("create role {} superuser login password {}").format(
                sql.Identifier(role), sql.Literal(password)
            )
        )
        await operator.execute(
            sql.SQL("alter role {} set synchronous_commit = off").format(sql.Identifier(role))
        )
        slot = f"s_{secrets.token_hex(4)}"
        await execute(
            operator, "select pg_create_physical_replication_slot(%(slot)s, true)", slot=slot
        )
        try:
            url = as_role(migrated_database_url, role, password)
            found = {f["found"]: f["remedy"] for f in await findings(url)}
            assert any(f"replication slot {slot} has no reader" in text for text in found)
            # How it showed: `alter system` was advised, over which the role's own setting wins.
            [remedy] = found["synchronous_commit is off"]
            await operator.execute(remedy.removesuffix(" then restart the servers").encode())
            assert "synchronous_commit is off" not in {f["found"] for f in await findings(url)}
        finally:
            await execute(operator, "select pg_drop_replication_slot(%(slot)s)", slot=slot)
            await operator.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


async def test_a_database_that_was_made_read_only_is_found_and_the_remedy_works(
    migrated_database_url: str,
) -> None:
    """How it showed: ALTER DATABASE is refused as well, while the setting holds."""
    url = migrated_database_url
    name = urlsplit(url).path.lstrip("/")
    async with await connect(url) as operator:
        await operator.execute(
            f"alter database {name} set default_transaction_read_only = on".encode()
        )
    found = {f["found"]: f["remedy"] for f in await findings(url)}
    [remedy] = found["default_transaction_read_only is on"]
    async with await connect(url) as operator:
        await operator.execute(remedy.removesuffix(" then restart the servers").encode())
    assert "default_transaction_read_only is on" not in {f["found"] for f in await findings(url)}


def as_role(url: str, role: str, password: str) -> str:
    """The URL for another role."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}"))


async def test_a_role_that_may_see_nothing_is_told_so(
    migrated_database_url: str, start_server: ServerFactory
) -> None:
    role, password = f"r{secrets.token_hex(4)}", "s3cret"
    await start_server(migrated_database_url)
    async with await connect(migrated_database_url) as operator:
        await operator.execute(
            sql.SQL("create role {} login password {}").format(
                sql.Identifier(role), sql.Literal(password)
            )
        )
        url = as_role(migrated_database_url, role, password)
        try:
            code, out, err = await run(url)
            assert not err
            seen = " ".join(out.split())
            assert f"could not be seen by role {role}: permission denied for schema" in seen
            assert f'do   grant select on all tables in schema atlasqueue to "{role}";' in out
            assert f'do   grant pg_read_all_stats to "{role}";' in out
            assert code == 2, "the tests' fsync"
            for grant in (
                "grant usage on schema atlasqueue to {}",
                "grant select on all tables in schema atlasqueue to {}",
                "grant pg_read_all_stats to {}",
            ):
                await operator.execute(sql.SQL(grant).format(sql.Identifier(role)))  # type: ignore[arg-type]
            await days_are_made(operator)
            assert await findings(url) == []
        finally:
            await operator.execute(
                sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role))
            )


async def test_the_cluster_is_examined(
    migrated_database_url: str, start_server: ServerFactory
) -> None:
    url = migrated_database_url
    before = {f["check"] for f in await findings(url)}
    assert {"servers", "partitions"} <= before
    server = await start_server(url)
    async with await connect(url) as operator, AsyncClient(server.grpc_address) as client:
        await days_are_made(operator)
        await client.enqueue_many([NewJob("lonely", "greet") for _ in range(3)])
        [queue] = await findings(url)
        assert queue["found"] == "queue lonely has 3 ready jobs, and no worker serves it"
        await client.queues.pause("lonely")
        # A server of another version whose clock is wrong, as its own heartbeat would tell.
        await execute(
            operator,
            "insert into atlasqueue.servers (server_id, address, version, seen_at, clock_offset_ms)"
            " values ('old', '10.0.0.9:7420', '0.0.1', clock_timestamp() + interval '1 minute', -5000)",
        )
        found = {f["check"]: f["found"] for f in await findings(url)}
        assert set(found) == {"versions", "clocks"}
        assert found["clocks"].endswith("is 5.0 s behind the database's")
        rows = await execute(
            operator, "select clock_offset_ms from atlasqueue.servers where server_id <> 'old'"
        )
        assert abs(rows[0][0]) < 10_000


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
async def test_a_pooler_in_transaction_mode_is_found_through_it(migrated_database_url: str) -> None:
    with pgbouncer(migrated_database_url, "transaction") as url:
        assert "pooler" in {f["check"] for f in await findings(url)}


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/x", "no address"])
async def test_what_cannot_be_examined_has_an_exit_code_of_its_own(url: str) -> None:
    code, out, err = await run(url)
    assert (code, out) == (3, "")
    assert err.startswith("atlasqueue-server: ")
    assert "Traceback" not in err


async def test_nothing_is_changed(migrated_database_url: str) -> None:
    """The role may write, and doctor's transactions may not."""
    async with await connect(migrated_database_url) as operator:
        query = "select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables"
        before = await execute(operator, query)
        code, _, _ = await run(migrated_database_url)
        assert code == 2
        assert await execute(operator, query) == before
