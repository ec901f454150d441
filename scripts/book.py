"""Fills the code into the pages of docs/learn from the files that run: `make generate`, `make verify`.

A page says what it wants to show in a comment; what stands between it and `<!-- end -->` is written anew:

    <!-- code: atlasqueue_server/domain/watermark.py Watermark.floor -->
    <!-- code: atlasqueue_server/store/sql/lease_jobs_if_ready.sql locked -->
    <!-- code: atlasqueue_server/store/sql/enqueue_jobs_if_new.sql -->
    <!-- end -->

After the path comes nothing (the whole file), a function or class of a .py file with its dots, or a CTE of
a .sql file. The pages are committed with their code, so that they can be read anywhere.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "docs" / "learn"
_PLACE = re.compile(
    r"^<!-- code: (\S+)(?: (\S+))? -->\n.*?^<!-- end -->$", re.DOTALL | re.MULTILINE
)
_LANGUAGES = {".py": "python", ".sql": "sql", ".proto": "protobuf"}


def excerpt(path: Path, name: str) -> str:
    """The text of a symbol or CTE, or of the whole file. Raises ValueError when there is none."""
    text = path.read_text("utf-8")
    if not name:
        return text.strip("\n")
    if path.suffix == ".py":
        return _symbol(text, name, path)
    found = re.search(
        rf"^(?:with )?{name} as (?:materialized )?\(\n.*?^\),?$", text, re.DOTALL | re.MULTILINE
    )
    if found is None:
        raise ValueError(f"{path.name}: no CTE {name}")
    return found[0].removesuffix(",")


def _symbol(text: str, name: str, path: Path) -> str:
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        inside = [n for n in ast.iter_child_nodes(node) if part in _names(n)]
        if not inside:
            raise ValueError(f"{path.name}: no {name}")
        node = inside[0]
    assert isinstance(node, ast.stmt)
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return textwrap.dedent("\n".join(text.splitlines()[first - 1 : node.end_lineno]))


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    return {t.id for t in targets if isinstance(t, ast.Name)}


def filled(page: Path) -> str:
    """The page with the code of now. Raises ValueError naming what is not there any more."""

    def one(match: re.Match[str]) -> str:
        path = ROOT / match[1]
        if not path.is_file():
            raise ValueError(f"{page.name} shows {match[1]}, which does not exist")
        code = excerpt(path, match[2] or "")
        link = os.path.relpath(path, page.parent)
        head = match[0].partition("\n")[0]
        fence = f"```{_LANGUAGES.get(path.suffix, 'text')}\n{code}\n```"
        return f"{head}\n{fence}\n\nFrom [{match[1]}]({link}).\n<!-- end -->"

    return _PLACE.sub(one, page.read_text("utf-8"))


def main(*, check: bool) -> int:
    """Writes the pages, or says which differ; the exit code."""
    stale = []
    for page in sorted(BOOK.glob("*.md")):
        text = filled(page)
        if text != page.read_text("utf-8"):
            stale.append(page.name)
            if not check:
                page.write_text(text, "utf-8")
    if stale and check:
        print(f"docs/learn shows code that has changed: {', '.join(stale)}; run make generate")
    return int(bool(stale) and check)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv))
