"""The book shows the code that runs, and every chapter keeps its shape."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labs import labs
from scripts import book
from tests.docs.pages import ROOT

CHAPTERS = sorted((ROOT / "docs" / "learn").glob("[0-9]-*.md"))
MARK = re.compile(r"^<!-- code: .* -->$", re.MULTILINE)


def _name(page: Path) -> str:
    return page.stem


def test_there_are_six_chapters() -> None:
    assert [page.name[0] for page in CHAPTERS] == list("123456")


@pytest.mark.parametrize("page", CHAPTERS, ids=_name)
def test_code_shown_is_the_code_that_runs(page: Path) -> None:
    assert book.filled(page) == page.read_text("utf-8"), "run make generate"


@pytest.mark.parametrize("page", CHAPTERS, ids=_name)
def test_a_chapter_begins_with_a_question_and_ends_in_a_lab_and_a_summary(page: Path) -> None:
    text = page.read_text("utf-8")
    opening = text.split("\n## ")[0]
    assert "?" in opening, "the opening asks nothing"
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[-1] == "To retell"
    assert headings[-2].startswith("Lab")
    lab = text.split("\n## Lab")[-1]
    assert "Watch for" in lab
    assert "Question" in lab
    assert len(MARK.findall(text)) >= 2, "a chapter shows code"
    assert set(re.findall(r"make lab NAME=(\w+)", text)) <= set(labs())
    assert "make lab NAME=" in lab


def test_every_lab_has_its_chapter() -> None:
    for lab in labs().values():
        page = ROOT / "docs" / "learn" / lab.chapter
        assert f"make lab NAME={lab.name}" in page.read_text("utf-8")


@pytest.mark.parametrize("page", CHAPTERS, ids=_name)
def test_what_the_text_quotes_of_the_code_stands_in_the_code_shown(page: Path) -> None:
    # Chapter 2 quoted `r.seq > lane.seq_floor` from a statement in which it had become windows.seq_floor.
    blocks = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    text = page.read_text("utf-8")
    shown = " ".join("\n".join(blocks.findall(text)).split())
    quoted = re.findall(r"`([^`\n]* [=<>]+ [^`\n]*)`", blocks.sub("", text))
    assert [quote for quote in quoted if quote not in shown] == []


def test_every_mark_has_its_end() -> None:
    for page in CHAPTERS:
        text = page.read_text("utf-8")
        assert len(MARK.findall(text)) == text.count("<!-- end -->"), page.name


def test_a_symbol_is_found_with_its_dots(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "class A:\n    @staticmethod\n    def f() -> int:\n        return 1\n\n\nB = 2\n"
    )
    assert book.excerpt(file, "A.f") == "@staticmethod\ndef f() -> int:\n    return 1"
    assert book.excerpt(file, "B") == "B = 2"


def test_what_is_gone_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.sql"
    file.write_text("with a as (\n    select 1\n)\nselect * from a\n")
    assert book.excerpt(file, "a") == "with a as (\n    select 1\n)"
    with pytest.raises(ValueError, match="no CTE b"):
        book.excerpt(file, "b")
