"""Renders documents as markdown, for docs/performance.md. No figure there is typed by hand.

python -m benchmarks report peers.json own.json --into docs/performance.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.console import COLUMNS, columns, compared, ratio_text, shown
from benchmarks.harness.document import load

BEGIN = "<!-- results: begin; written by `python -m benchmarks report`, do not edit -->"
END = "<!-- results: end -->"


def render(paths: Sequence[Path]) -> str:
    """The markdown of some documents. Raises OSError, ValueError for what is no document."""
    return "\n".join(_document(load(path)) for path in paths)


def replace(page: Path, text: str) -> None:
    """Puts `text` between the marks of a page. Raises ValueError when it has none."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for results: a line {BEGIN!r} and a line {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def _document(document: Mapping[str, Any]) -> str:
    title = {"own": "AtlasQueue alone", "peers": "Beside its peers"}[document["kind"]]
    parts = [f"### {title}\n", _facts(document)]
    if document["kind"] == "peers":
        parts.append(_variants(document))
    parts += [_measurement(document, name) for name in document["summary"]]
    parts += [f"- skipped {name}: {reason}" for name, reason in document["skipped"].items()]
    return "\n".join(parts)


def _facts(document: Mapping[str, Any]) -> str:
    machine, postgres = document["machine"], document["postgres"]
    libraries = ", ".join(f"{k} {v}" for k, v in document["versions"].items())
    safety = ", ".join(
        f"{name} {postgres[name]}"
        for name in ("synchronous_commit", "fsync", "full_page_writes")
        if name in postgres
    )
    return (
        f"{document['started_at']} · {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']} · PostgreSQL "
        f"{postgres.get('server_version', '?')} ({safety}) · Python {machine['python']}, {libraries}. "
        f"Medians of {document['options']['pairs']} interleaved rounds; in brackets the least and the "
        "greatest.\n"
    )


def _variants(document: Mapping[str, Any]) -> str:
    rows = [
        [name, facts["version"], facts["settings"], facts["contract"], _jobs(document, facts)]
        for name, facts in document["variants"].items()
    ]
    return _table(["queue", "version", "settings", "contract", "jobs a round"], rows)


def _jobs(document: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    asked = document["options"]["jobs"]
    return shown(min(asked, facts.get("jobs_max") or asked))


def _measurement(document: Mapping[str, Any], name: str) -> str:
    variants = document["summary"][name]
    metrics = columns(variants)
    by = compared(name, metrics)
    noise = document["noise"].get(name, {})
    heads = ["", *(COLUMNS[metric] for metric in metrics)]
    heads += [f"base / this, {COLUMNS[metric]}" for metric in by]
    ratios = document["ratios"].get(name, {})
    rows = [
        [
            variant,
            *(shown(values[m]["median"]) if m in values else "" for m in metrics),
            *(ratio_text(ratios.get(variant, {}).get(m)) for m in by),
        ]
        for variant, values in variants.items()
    ]
    spreads = ", ".join(f"{COLUMNS[m]} {noise[m]:.1%}" for m in by if m in noise)
    spread = f"A/A spread: {spreads}.\n" if spreads else ""
    return f"#### {name.replace('_', ' ')}\n\n{_table(heads, rows)}{spread}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # The first column is a name, the others are mostly figures.
    lines = [heads, ["---", *(["---"] * (len(heads) - 1))], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"
