"""The documentation site builds without a warning, is whole, and asks nobody for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from scripts.docs import main
from tests.docs.pages import ROOT

pytestmark = pytest.mark.long


class _Page(HTMLParser):
    """What a page links, what it loads, and the places in it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag in ("link", "script", "img", "iframe"):
            self.loads.append(values.get("href", values.get("src", "")))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, _Page]:
    directory = tmp_path_factory.mktemp("site")
    # Not --quiet: mkdocs then counts no warnings, and a page outside the navigation went unseen.
    assert main("build", "--site-dir", str(directory)) == 0, "see the warnings above"
    return {file: _Page(file) for file in directory.rglob("*.html") if file.name != "404.html"}


def test_every_page_is_on_the_site(site: dict[Path, _Page]) -> None:
    built = {file.stem for file in site}
    missing = [p.name for p in (ROOT / "docs").rglob("*.md") if p.stem not in built | {"README"}]
    assert missing == []


def test_no_link_is_broken(site: dict[Path, _Page]) -> None:
    broken = []
    for file, page in site.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = unquote(link).partition("#")
            target = (file.parent / path).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            if target not in site or (anchor and anchor not in site[target].anchors):
                broken.append(f"{file.name} -> {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site: dict[Path, _Page]) -> None:
    foreign = {load for page in site.values() for load in page.loads if "//" in load}
    assert foreign == set()
