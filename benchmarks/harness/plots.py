"""PNG plots of a document, where a curve says more than a row.

    python -m benchmarks.harness.plots RUN.json     writes into RUN/ beside it

Needs matplotlib and the standard library only, so that it runs in an environment of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot

Curves = Mapping[str, Sequence[Sequence[float]]]
LABELS = {
    "horizon": ("Enqueue and work at once", "jobs/s"),
    "soak": ("Resident memory under full load", "MiB"),
}


def plot(document: Mapping[str, Any], directory: Path) -> list[Path]:
    """Writes what there is to draw; the files."""
    curves, summary = document["curves"], document["summary"]
    files = [
        _lines(curves[name], *LABELS[name], directory / f"{name}.png")
        for name in LABELS
        if curves.get(name)
    ]
    if "slots" in summary:
        files.append(_slots(summary["slots"], directory / "slots.png"))
    return files


def _lines(curves: Curves, title: str, unit: str, path: Path) -> Path:
    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=name)
    axes.set(title=title, xlabel="seconds", ylabel=unit, ylim=(0, None))
    axes.legend()
    return _save(figure, path)


def _slots(variants: Mapping[str, Any], path: Path) -> Path:
    points = sorted(
        (int(name.split()[0]), metrics["jobs_per_s"]) for name, metrics in variants.items()
    )
    slots = [count for count, _ in points]
    medians = [rate["median"] for _, rate in points]
    errors = [
        [rate["median"] - rate["low"] for _, rate in points],
        [rate["high"] - rate["median"] for _, rate in points],
    ]
    figure, axes = pyplot.subplots(figsize=(8, 4))
    axes.errorbar(slots, medians, yerr=errors, marker="o", capsize=3)
    axes.set(title="Work phase by slots", xlabel="slots", ylabel="jobs/s", ylim=(0, None))
    axes.set_xscale("log", base=2)
    axes.set_xticks(slots, [str(count) for count in slots])
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    return path


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        for file in plot(json.loads(path.read_text()), path.with_suffix("")):
            print(f"wrote {file}")
