"""Every file under store/sql is one commented statement that some function runs."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

import atlasqueue_server.store as store
from atlasqueue_server.store.statements import names, statement

STORE = Path(store.__file__).parent
CODE = {path.name: path.read_text("utf-8") for path in STORE.glob("*.py")}
# Their names of tables are put in by psycopg.sql, so they cannot be prepared as they are.
TEMPLATES = {"create_finished_partition", "drop_finished_partition"}
# Utility statements, which PostgreSQL does not prepare.
UTILITY = {"listen"}


@pytest.mark.parametrize("name", names())
def test_is_used(name: str) -> None:
    assert any(f'"{name}"' in text for text in CODE.values()), f"no function runs {name}.sql"


def test_every_name_that_is_run_has_a_file() -> None:
    run = re.compile(r'(?:\brun|\bstatement|\bsend|_run_named|_count)\(\s*(?:\w+,\s*)?"(\w+)"')
    used = {name for text in CODE.values() for name in run.findall(text)}
    assert len(used) > 40
    assert used <= set(names())


@pytest.mark.parametrize("name", names())
def test_says_what_it_is_for(name: str) -> None:
    text = (STORE / "sql" / f"{name}.sql").read_text("utf-8")
    assert text.startswith("-- ")
    assert ";" not in statement(name).decode()
    # A file that changes rows under a condition says so in its name and in its comment.
    if name.endswith(("_if_fenced", "_if_leader", "_if_live", "_if_dead")):
        assert re.search(r"[Gg]uards?:", text), "the comment must name the guard"


def test_scheduler_statements_check_the_term() -> None:
    guard = re.compile(rb"term = %\(term\)s\s+and holder = %\(holder\)s")
    for name in names():
        if name.endswith("_if_leader"):
            assert guard.search(statement(name)), name


async def test_each_is_one_statement(any_migrated_database_url: str) -> None:
    """PostgreSQL prepares a single statement only, and refuses what it cannot resolve."""
    url = any_migrated_database_url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for name in sorted(set(names()) - TEMPLATES - UTILITY):
            query = _numbered(statement(name).decode())
            await connection.execute(f"prepare p as {query}".encode())
            await connection.execute("deallocate p")


def _numbered(text: str) -> str:
    known: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return known.setdefault(match[1], f"${len(known) + 1}")

    return re.sub(r"%\((\w+)\)s", number, text).replace("%%", "%")
