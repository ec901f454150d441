"""The JSON document of a run: everything that was measured, and the statistics of it.

    schema       1; grows when a reader would misunderstand an older document
    kind         "own" or "peers"
    started_at   UTC
    machine      processor, cores, memory, kernel, Python
    versions     of AtlasQueue and of the libraries that carry its bytes
    postgres     the settings that decide what a commit means
    options      how the run was asked for
    variants     name → what it is: version, settings, what its contract lacks or adds
    skipped      name → why
    samples      measurement, variant, round, again (the second of an A/A pair), metrics
    summary      measurement → variant → metric → median, low, high, count
    ratios       measurement → variant → metric → the base's value over the variant's, by round
    noise        measurement → metric → the A/A spread
    curves       name → variant → points over time, of each variant's last round

Metrics end in their unit. `report.py` renders the document; nothing is ever typed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import statistics

SCHEMA = 1
KEYS = (
    "schema", "kind", "started_at", "machine", "versions", "postgres", "options", "variants",
    "skipped", "samples", "summary", "ratios", "noise", "curves",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one variant in one round."""

    measurement: str
    variant: str
    round: int
    metrics: dict[str, float]
    again: bool = False


@dataclass
class Run:
    """A run in the making."""

    kind: str
    machine: dict[str, Any]
    versions: dict[str, str]
    postgres: dict[str, str]
    options: dict[str, Any]
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    curves: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    # Per measurement, the variant that the others are compared with.
    bases: dict[str, str] = field(default_factory=dict)
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def document(self) -> dict[str, Any]:
        """Everything, with the statistics worked out."""
        facts = {name: getattr(self, name) for name in KEYS if hasattr(self, name)}
        return {"schema": SCHEMA, **facts} | {
            "samples": [asdict(sample) for sample in self.samples],
            **analyse(self.samples, self.bases),
        }

    def write(self, path: Path) -> None:
        """Writes the document, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(self.document(), indent=1) + "\n")
        draft.replace(path)


def analyse(samples: Iterable[Sample], bases: Mapping[str, str]) -> dict[str, Any]:
    """Summary, ratios and noise of samples."""
    summary: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    noise: dict[str, Any] = {}
    kept = list(samples)
    for measurement in dict.fromkeys(sample.measurement for sample in kept):
        here = [sample for sample in kept if sample.measurement == measurement]
        variants = dict.fromkeys(sample.variant for sample in here)
        base = bases.get(measurement, next(iter(variants)))
        summary[measurement] = {
            variant: {
                metric: statistics.spread(values).as_dict()
                for metric, values in statistics.by_metric(
                    [sample.metrics for sample in here if sample.variant == variant]
                ).items()
            }
            for variant in variants
        }
        ratios[measurement] = {
            variant: _ratios(here, base, variant) for variant in variants if variant != base
        }
        noise[measurement] = _noise(here, base)
    return {"summary": summary, "ratios": ratios, "noise": noise}


def _by_round(samples: list[Sample], variant: str, again: bool, metric: str) -> dict[int, float]:
    return {
        s.round: s.metrics[metric]
        for s in samples
        if s.variant == variant and s.again is again and metric in s.metrics
    }


def _metrics(samples: list[Sample], variant: str) -> list[str]:
    return list(dict.fromkeys(m for s in samples if s.variant == variant for m in s.metrics))


def _ratios(samples: list[Sample], base: str, variant: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for metric in _metrics(samples, variant):
        theirs = _by_round(samples, variant, False, metric)
        first = _by_round(samples, base, False, metric)
        again = _by_round(samples, base, True, metric)
        # The base stands at both ends of a round: the mean of the two is what it did meanwhile.
        ours = {n: (value + again.get(n, value)) / 2 for n, value in first.items()}
        both = [n for n in theirs if n in ours]
        values = statistics.ratios([ours[n] for n in both], [theirs[n] for n in both])
        if values:
            found[metric] = statistics.spread(values).as_dict()
    return found


def _noise(samples: list[Sample], base: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in _metrics(samples, base):
        first = _by_round(samples, base, False, metric)
        again = _by_round(samples, base, True, metric)
        both = [n for n in first if n in again]
        value = statistics.noise([first[n] for n in both], [again[n] for n in both])
        if value is not None:
            found[metric] = value
    return found


def load(path: Path) -> dict[str, Any]:
    """A document from disk. Raises ValueError when it is not one of this schema."""
    document = json.loads(path.read_text())
    check(document)
    return dict(document)


def check(document: Any) -> None:
    """Raises ValueError, naming what is wrong, when this is no document of this schema."""
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"not a benchmark document of schema {SCHEMA}")
    if missing := [key for key in KEYS if key not in document]:
        raise ValueError(f"the document lacks {', '.join(missing)}")
    for number, sample in enumerate(document["samples"]):
        if set(sample) != {"measurement", "variant", "round", "metrics", "again"}:
            raise ValueError(f"sample {number} has other fields than a sample")
        if bad := [k for k, v in sample["metrics"].items() if not isinstance(v, int | float)]:
            raise ValueError(f"sample {number}: {', '.join(bad)} is no number")
