"""SQL lives in .sql files, one statement each, and each file has exactly one caller."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SQL = ROOT / "atlasqueue_server" / "store" / "sql"
SOURCES = [
    p
    for package in ("atlasqueue_server", "atlasqueue_worker", "clients/python/atlasqueue")
    for p in (ROOT / package).rglob("*.py")
    if "_pb2" not in p.name
]
# A keyword of SQL at the head of a string literal, followed by what makes it a statement.
STATEMENT = re.compile(
    r"""["']\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s*\(|"""
    r"""create\s+(table|index|schema|function)\s|alter\s+table\s|drop\s+table\s|notify\s+\w|truncate\s)""",
    re.IGNORECASE,
)


def _statements(text: str) -> int:
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    without_strings = re.sub(r"'[^']*'", "''", code)
    return len([part for part in without_strings.split(";") if part.strip()])


@pytest.mark.parametrize("path", sorted(SQL.glob("*.sql")), ids=lambda p: p.stem)
def test_a_file_is_one_statement_with_a_word_on_it(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("-- "), "the first line says what the statement does"
    assert _statements(text) == 1
    assert "select *\nfrom" not in text.lower()


@pytest.mark.parametrize("path", sorted(SQL.glob("*.sql")), ids=lambda p: p.stem)
def test_a_file_has_a_caller_in_the_store(path: Path) -> None:
    callers = [
        p.name
        for p in (ROOT / "atlasqueue_server" / "store").glob("*.py")
        if re.search(rf'"{path.stem}"', p.read_text())
    ]
    assert callers, f"nobody runs {path.name}"


def test_no_sql_in_python() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in SOURCES
        for line in path.read_text().splitlines()
        if STATEMENT.search(line)
    ]
    assert not found


def test_a_statement_of_the_scheduler_checks_the_term() -> None:
    for path in SQL.glob("*_if_leader.sql"):
        text = path.read_text()
        assert re.search(r"term = %\(term\)s and holder = %\(holder\)s", text), path.name
