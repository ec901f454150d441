"""The lines of docs/sql.md work, in their order, and print what the page says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Jsonb

from atlasqueue_server.embedded import find_binaries
from tests.docs.pages import ROOT, run, steps_of
from tests.sql_enqueue.drawn import EDGES

PAGE = ROOT / "docs" / "sql.md"


@pytest.fixture
def with_psql(migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """psql on the PATH and a database to use it on; the page's role does not outlive it."""
    path = f"{find_binaries().directory}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    yield migrated_database_url
    with psycopg.connect(migrated_database_url, autocommit=True) as connection:
        connection.execute("drop owned by shop")
        connection.execute("drop role shop")


async def test_every_line_of_the_page_works(with_psql: str, tmp_path: Path) -> None:
    await run(steps_of(PAGE, {}), tmp_path)


def test_the_python_of_the_page_works(migrated_database_url: str) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    with psycopg.connect(migrated_database_url) as connection:
        connection.execute("create table orders (item text not null)")
    names = {"psycopg": psycopg, "Jsonb": Jsonb, "url": migrated_database_url}
    exec(program, names)
    with psycopg.connect(migrated_database_url) as connection:
        rows = connection.execute("select job_id, headers from atlasqueue.jobs").fetchall()
    assert rows == [(names["job_id"], {"shop": "north"})]


async def test_every_parameter_is_in_the_table() -> None:
    table = PAGE.read_text().partition("## The parameters")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]+)\|", table, re.M)))
    assert set(named) == set(EDGES)
