"""What mkdocs asks while it builds: the navigation, the files outside docs/, and their links."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.site.links import DOCS, rewrite, site_path, source_of, targets  # noqa: E402

_ENTRY = re.compile(r"^( *)- \[[^\]]*\]\(([^)]+\.md)\)")
_HEADING = re.compile(r"^(?:#+ (.+)|([A-Z].*):)$")
_LANGUAGES = {".py": "python", ".sql": "sql", ".proto": "protobuf", ".toml": "toml", ".go": "go"}


def navigation(index: str) -> list[Any]:
    """The navigation that docs/README.md lists: a section for each of its groups.

    A nested list is a section of its own under the page above it. Every page is in that list
    (tests/docs/test_links.py), so a new page needs a line there and nothing else. It may lead out of
    docs/, to the examples, say.
    """
    sections: list[Any] = ["README.md"]
    entries: list[Any] = sections
    for line in index.splitlines():
        if (heading := _HEADING.match(line)) and not line.startswith("# "):
            entries = []
            sections.append({(heading[1] or heading[2]): entries})
        elif entry := _ENTRY.match(line):
            page = site_path((DOCS / entry[2]).resolve())
            if not entry[1]:
                entries.append(page)
            elif isinstance(entries[-1], str):
                parent = entries.pop()
                entries.append({Path(parent).parent.name.capitalize(): [parent, page]})
            else:
                next(iter(entries[-1].values())).append(page)
    return [section for section in sections if isinstance(section, str) or any(section.values())]


def on_config(config: Any) -> Any:
    """mkdocs calls it first."""
    config.nav = navigation((DOCS / "README.md").read_text("utf-8"))
    return config


def on_files(files: Files, config: Any) -> Files:
    """mkdocs calls it with the files of docs/; adds what they link, and what that links."""
    waiting = [source_of(f.src_uri) for f in files.documentation_pages()]
    while waiting:
        source = waiting.pop()
        for target in targets(source, _markdown_of(source)):
            page = site_path(target)
            if files.get_file_from_path(page) is None:
                content = rewrite(target, page, _page_of(target))
                files.append(File.generated(config, page, content=content))
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """mkdocs calls it for every page."""
    if page.file.generated_by:
        return markdown
    return rewrite(source_of(page.file.src_uri), page.file.src_uri, markdown)


def _markdown_of(source: Path) -> str:
    return source.read_text("utf-8") if source.suffix == ".md" else ""


def _page_of(target: Path) -> str:
    name = target.relative_to(ROOT)
    if target.suffix == ".md":
        return target.read_text("utf-8")
    if target.is_dir():
        inside = sorted(p.name for p in target.iterdir() if not p.name.startswith(("_", ".")))
        return f"# {name}/\n\n" + "".join(f"- `{entry}`\n" for entry in inside)
    text = target.read_text("utf-8")
    fence = "`" * 4
    return f"# {name}\n\n{fence}{_LANGUAGES.get(target.suffix, 'text')}\n{text}\n{fence}\n"
