"""The document of a run, and the markdown that is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.harness import document
from benchmarks.harness.document import Run, Sample


def a_run() -> Run:
    run = Run(
        "peers",
        {"processor": "P", "cores": 2, "memory_gib": 4.0, "system": "S", "python": "3.11"},
        {"atlasqueue": "1"},
        {"server_version": "18", "fsync": "on"},
        {"pairs": 2, "jobs": 1000},
    )
    facts = {"version": "1", "settings": "fast", "contract": "another", "jobs_max": None}
    run.variants = {"atlasqueue": facts, "other": facts | {"jobs_max": 100}}
    run.skipped = {"third": "needs Go"}
    for number, (first, other, again) in enumerate([(200, 100, 220), (300, 100, 300)]):
        run.samples += [
            Sample("work", "atlasqueue", number, {"jobs_per_s": first}),
            Sample("work", "other", number, {"jobs_per_s": other}),
            Sample("work", "atlasqueue", number, {"jobs_per_s": again}, again=True),
        ]
    return run


def test_ratios_are_taken_round_by_round_against_the_mean_of_the_base() -> None:
    made = a_run().document()
    ratio = made["ratios"]["work"]["other"]["jobs_per_s"]
    assert (ratio["low"], ratio["median"], ratio["high"]) == (2.1, 2.55, 3.0)
    assert made["noise"]["work"]["jobs_per_s"] == pytest.approx(0.1)
    assert made["summary"]["work"]["atlasqueue"]["jobs_per_s"]["count"] == 4


def test_a_document_survives_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "results" / "run.json"
    run = a_run()
    run.write(path)
    assert document.load(path) == json.loads(json.dumps(run.document()))
    assert [each.name for each in path.parent.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: d.update(schema=0), "schema"),
        (lambda d: d.pop("noise"), "lacks noise"),
        (lambda d: d["samples"][0].pop("round"), "sample 0"),
        (lambda d: d["samples"][1]["metrics"].update(jobs_per_s="fast"), "is no number"),
    ],
)
def test_what_is_no_document_is_refused_by_name(spoil: Any, says: str) -> None:
    spoiled = json.loads(json.dumps(a_run().document()))
    spoil(spoiled)
    with pytest.raises(ValueError, match=says):
        document.check(spoiled)


def test_the_report_replaces_only_what_is_between_the_marks(tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    a_run().write(run)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.replace(page, report.render([run]))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| other | 100 | 2.55 (2.10–3.00) |" in text
    assert "A/A spread: jobs/s 10.0%" in text
    assert "skipped third: needs Go" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no place for results"):
        report.replace(page, "text")


def test_the_page_of_the_repository_has_the_marks() -> None:
    page = Path(__file__).parents[2] / "docs" / "performance.md"
    text = page.read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1
