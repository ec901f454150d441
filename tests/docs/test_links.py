"""What the pages point to exists, and the life of a job is told without gaps."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from atlasqueue_server.model.errors import AtlasQueueError
from atlasqueue_server.model.states import TRANSITIONS, Gone, State, Verb
from tests.chaos.scenarios import scenarios
from tests.docs.pages import ROOT

PAGES = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    ]
)
SQL = ROOT / "atlasqueue_server" / "store" / "sql"
LIFE = ROOT / "docs" / "job_lifecycle.md"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
# A path or file that is named in backticks rather than linked.
NAMED = re.compile(r"`([\w./-]+\.(?:py|sql|proto|md|toml|txt|lock|yaml))`")
SMALL_ROWS = ("scheduled", "ready", "leased", "finished", "dead_letters")


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles}


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCED.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{_name(page)} links to {target}, which does not exist"
        assert file.is_relative_to(ROOT)
        if anchor:
            assert anchor in _anchors(file), f"{_name(page)} links to {target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_named_file_exists(page: Path) -> None:
    ours = {
        p.name
        for top in (
            "atlasqueue_server",
            "atlasqueue_worker",
            "atlasqueue_cli",
            "clients",
            "deploy",
            "docs",
            "examples",
            "labs",
            "migrations",
            "proto",
            "scripts",
            "tests",
        )
        for p in (ROOT / top).rglob("*.*")
    }
    ours |= {p.name for p in ROOT.iterdir()}
    named_by_users = {"jobs.py", "produce.py", "atlasqueue.toml"}
    for named in NAMED.findall(page.read_text()):
        assert Path(named).name in ours | named_by_users, f"{_name(page)} names {named}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=_name)
def test_every_page_is_in_the_index(page: Path) -> None:
    index = ROOT / "docs" / "README.md"
    if page != index:
        assert f"({page.relative_to(index.parent)})" in index.read_text()


def _moving_statements() -> list[str]:
    """Statements that take a job's small row out of its table or put one in."""
    move = re.compile(
        rf"(?:insert into|delete from|update) atlasqueue\.(?:{'|'.join(SMALL_ROWS)}|finished_default|sessions s\nset lost)\b"
    )
    found = [p.name for p in sorted(SQL.glob("*.sql")) if move.search(p.read_text())]
    return [*found, "drop_finished_partition.sql", "lose_sessions_if_leader.sql"]


def test_there_are_moving_statements() -> None:
    assert len(_moving_statements()) >= len(Verb)


@pytest.mark.parametrize("name", _moving_statements())
def test_the_life_of_a_job_links_every_moving_statement(name: str) -> None:
    assert f"(../atlasqueue_server/store/sql/{name})" in LIFE.read_text()


@pytest.mark.parametrize("verb", Verb)
def test_the_life_of_a_job_has_a_heading_for_every_verb(verb: Verb) -> None:
    sections = dict(
        re.findall(r"^### (\w+): (.*?)(?=^##)", LIFE.read_text(), re.DOTALL | re.MULTILINE)
    )
    assert set(sections) == {str(v) for v in Verb}
    section = sections[verb]
    for (of, source), targets in TRANSITIONS.items():
        for place in {source, *targets} if of is verb else ():
            word = {Gone.GONE: ("∅", "gone")}.get(place, (str(place),))  # type: ignore[call-overload]
            assert any(w in section for w in word), f"{verb} says nothing of {place}"


@pytest.mark.parametrize("verb", Verb)
def test_the_glossary_knows_every_verb(verb: Verb) -> None:
    assert f"**{verb}**" in (ROOT / "docs" / "glossary.md").read_text()


@pytest.mark.parametrize("state", State)
def test_the_glossary_knows_every_state(state: State) -> None:
    assert f"**{state}**" in (ROOT / "docs" / "glossary.md").read_text()


def _reasons(of: type[AtlasQueueError]) -> set[str]:
    return {of.reason}.union(*(_reasons(c) for c in of.__subclasses__()))


def test_the_life_of_a_job_explains_every_reason() -> None:
    text = LIFE.read_text()
    assert [r for r in sorted(_reasons(AtlasQueueError)) if f"| {r} |" not in text] == []


def test_the_pictures_are_the_same() -> None:
    def picture(path: Path) -> str:
        found = re.search(
            r"^ {3}enqueue +lease.*?purge ──▶ ∅$", path.read_text(), re.DOTALL | re.MULTILINE
        )
        assert found is not None
        return found[0]

    code = picture(ROOT / "atlasqueue_server" / "model" / "states.py")
    assert picture(ROOT / "README.md") == code
    assert picture(LIFE) == code


def test_every_fault_scenario_is_told() -> None:
    """How it showed: README counted 25 of 26, and chaos.md said that failover is not among them."""
    told = (ROOT / "docs" / "faults.md").read_text() + (ROOT / "docs" / "chaos.md").read_text()
    assert [name for name in scenarios() if f"`{name}`" not in told] == []
    assert f"{len(scenarios())} fault scenarios" in (ROOT / "README.md").read_text()


def test_readme_names_the_two_commands_first() -> None:
    first = FENCED.search((ROOT / "README.md").read_text())
    assert first is not None
    assert first[0] == "```sh\nmake demo\nmake test\n```"
