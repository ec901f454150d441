"""Where a link leads, in the repository and on the site. Pure but for looking at files.

Pages are written for readers of the repository: a link may lead anywhere in it. On the site every linked
file outside docs/ becomes a page under files/, so that the site is whole without the repository:

    docs/faults.md      → faults.md
    tests/broken        → files/tests/broken/README.md        (a list of what is in it)
    models/whole.cfg    → files/models/whole.cfg.md           (its text)
    CONTRIBUTING.md     → files/CONTRIBUTING.md               (the page, its own links rewritten)
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ELSEWHERE = "files"

_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s]+)(\))")
# GitHub nests a list by two spaces, mkdocs by four.
_NESTED = re.compile(r"^ {2,3}(?=(?:[-*]|\d+\.) )", re.MULTILINE)
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def site_path(target: Path) -> str:
    """The page of a file or directory of the repository, relative to the site's source."""
    if target.is_relative_to(DOCS):
        path = target.relative_to(DOCS)
        return str(path / "README.md" if target.is_dir() else path)
    path = ELSEWHERE / target.relative_to(ROOT)
    if target.is_dir():
        return str(path / "README.md")
    return str(path) if path.suffix == ".md" else f"{path}.md"


def source_of(page: str) -> Path:
    """The file of the repository that a page of the site was made from."""
    if not page.startswith(f"{ELSEWHERE}/"):
        return DOCS / page
    path = ROOT / page.removeprefix(f"{ELSEWHERE}/")
    if path.name == "README.md" and not path.exists():
        return path.parent
    return path if path.exists() else path.with_suffix("")


def _resolve(source: Path, link: str) -> tuple[Path, str] | None:
    """The file and anchor that a link of `source` leads to; None when it leaves the repository."""
    if re.match(r"[a-z]+:|#", link):
        return None
    path, _, anchor = unquote(link).partition("#")
    target = Path(os.path.normpath(source.parent / path))
    return (target, anchor) if target.is_relative_to(ROOT) else None


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    parts = _FENCED.split(text)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))


def targets(source: Path, text: str) -> list[Path]:
    """The files outside docs/ that a page links."""
    found = [_resolve(source, link[1]) for link in _LINK.findall(_FENCED.sub("", text))]
    outside = [hit[0] for hit in found if hit and not hit[0].is_relative_to(DOCS)]
    return [target for target in outside if target.exists()]


def rewrite(source: Path, page: str, text: str) -> str:
    """The text of a page with links that lead to where their targets are on the site."""

    def one(match: re.Match[str]) -> str:
        hit = _resolve(source, match[2])
        if hit is None or not hit[0].exists():
            return match[0]
        place = os.path.relpath(site_path(hit[0]), Path(page).parent)
        return f"{match[1]}{place}{'#' * bool(hit[1])}{hit[1]}{match[3]}"

    return _outside_fences(text, lambda part: _NESTED.sub("    ", _LINK.sub(one, part)))
