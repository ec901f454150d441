"""What the function promises of itself: bounds, ids, permissions."""

from __future__ import annotations

import re
import time
import uuid
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from psycopg import errors

from atlasqueue_server.domain.enqueue import ROUNDS_MAX
from atlasqueue_server.model import limits
from tests.factories import execute
from tests.sql_enqueue.conftest import GRANTS, a_role

CONSTANT = re.compile(
    r"^ *(\w+) constant (?:integer|double precision|text) := '?([^()]+?)'?;$", re.M
)


async def test_its_bounds_are_those_of_the_model(admin: Any) -> None:
    sources = await execute(
        admin,
        "select proname, prosrc from pg_proc where pronamespace = 'atlasqueue'::regnamespace"
        " and prosrc like '%% constant %%'",
    )
    told = {name: dict(CONSTANT.findall(source)) for name, source in sources}
    assert {name: len(constants) for name, constants in told.items()} == {
        "create_new_queue": 1,
        "enqueue": 19,
    }
    known: dict[str, Any] = vars(limits) | {"ROUNDS_MAX": ROUNDS_MAX}
    for constants in told.values():
        for name, value in constants.items():
            limit = known[name.upper()]
            assert type(limit)(value) == limit, name


async def test_ids_are_of_version_7_and_ascend(producer: Any) -> None:
    before_ms = time.time_ns() // 1_000_000
    rows = await execute(
        producer, "select atlasqueue.enqueue('mail', 'k') from generate_series(1, 300)"
    )
    ids: list[uuid.UUID] = [row[0] for row in rows]
    assert {(made.version, made.variant) for made in ids} == {(7, uuid.RFC_4122)}
    assert all(first < second for first, second in pairwise(ids))
    assert before_ms <= ids[0].int >> 80 <= ids[-1].int >> 80 <= time.time_ns() // 1_000_000


async def test_a_producer_may_enqueue_and_nothing_else(admin: Any, producer: Any) -> None:
    await execute(producer, "select atlasqueue.enqueue('mail', 'k')")
    await producer.commit()
    tables = await execute(
        admin,
        "select relname from pg_class where relnamespace = 'atlasqueue'::regnamespace"
        " and relkind in ('r', 'p')",
    )
    forbidden = [f"select * from atlasqueue.{table}" for (table,) in tables]
    forbidden += [
        "insert into atlasqueue.new_queues (name) values ('a name that is none')",
        "select nextval('atlasqueue.ready_seq')",
        "select atlasqueue.refuse('INVALID_FIELD', 'x')",
        "select atlasqueue.uuid7()",
    ]
    for statement in forbidden:
        with pytest.raises(errors.InsufficientPrivilege):
            await execute(producer, statement)
        await producer.rollback()


@pytest.mark.parametrize("grants", [(), GRANTS[:1]], ids=["nothing", "schema only"])
async def test_without_the_grants_it_is_refused(
    any_migrated_database_url: str, grants: tuple[str, ...]
) -> None:
    with a_role(any_migrated_database_url, *grants) as url:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            with pytest.raises(errors.InsufficientPrivilege):
                await execute(connection, "select atlasqueue.enqueue('mail', 'k')")


async def test_what_runs_as_the_owner_looks_nowhere_else(admin: Any) -> None:
    """A search path of the caller's would let it slip functions of its own below the owner's."""
    functions = await execute(
        admin,
        "select proname, proconfig from pg_proc where pronamespace = 'atlasqueue'::regnamespace"
        " and prosecdef order by proname",
    )
    safe = "search_path=pg_catalog, pg_temp"
    assert [(name, safe in config) for name, config in functions] == [
        ("create_new_queue", True),
        ("enqueue", True),
    ]


async def test_it_walks_no_table(admin: Any) -> None:
    """How it showed: a session whose first repeats met a small table walked 20 000 bodies for each later one."""
    await execute(admin, "analyze")
    async with admin.transaction():
        for _ in range(3):
            await execute(
                admin,
                "select atlasqueue.enqueue('mail', 'k', job_id => md5(n::text)::uuid)"
                " from generate_series(1, 20) as n",
            )
        scans = await execute(
            admin,
            "select relname, seq_scan from pg_stat_xact_user_tables"
            " where schemaname = 'atlasqueue' and relname in ('jobs', 'queues') order by 1",
        )
    assert scans == [("jobs", 0), ("queues", 0)]


async def test_null_is_unset(admin: Any, producer: Any) -> None:
    await execute(
        producer,
        "select atlasqueue.enqueue('mail', 'k', null, null, null, null, null, null, null, null, null,"
        " null), atlasqueue.enqueue('mail', 'k'), atlasqueue.enqueue('mail', 'k', headers => '{}')",
    )
    await producer.commit()
    bodies = await execute(
        admin,
        "select distinct payload, headers, priority, run_at, deadline_ms, max_attempts,"
        " backoff_initial_ms, backoff_multiplier, backoff_cap_ms from atlasqueue.jobs",
    )
    assert bodies == [(b"", None, 3, None, None, None, None, None, None)]


@pytest.mark.parametrize("headers", ['{"a": 1}', '{"a": null}', '{"a": {}}', "[]", '"a"', "null"])
async def test_headers_are_texts(producer: Any, headers: str) -> None:
    """What a map of the contract cannot hold, JSON can."""
    with pytest.raises(errors.InvalidParameterValue, match=r"^headers: must be an object") as no:
        await execute(
            producer,
            "select atlasqueue.enqueue('mail', 'k', headers => %(headers)s::jsonb)",
            headers=headers,
        )
    assert no.value.diag.message_detail == "INVALID_FIELD"


@pytest.mark.parametrize("field", ["deadline", "initial_backoff", "max_backoff"])
@pytest.mark.parametrize("value", ["infinity", "-infinity", "1 month", "-1 day"])
async def test_intervals_that_no_duration_can_be(producer: Any, field: str, value: str) -> None:
    call = f"select atlasqueue.enqueue('mail', 'k', {field} => '{value}')"
    if "inf" in value and producer.info.server_version < 170000:
        with pytest.raises(errors.InvalidDatetimeFormat):
            await execute(producer, call)
    else:
        with pytest.raises(errors.InvalidParameterValue, match=rf"^{field}: must be \d+ s to"):
            await execute(producer, call)


@pytest.mark.parametrize("value", ["infinity", "-infinity", "1969-12-31T23:59:59.999999Z"])
async def test_times_that_no_timestamp_can_be(producer: Any, value: str) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=r"^run_at: must be 1970-01-01"):
        await execute(producer, f"select atlasqueue.enqueue('mail', 'k', run_at => '{value}')")
