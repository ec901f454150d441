"""Rounds: every variant once, the base at both ends.

round 1:  base  B  C  D  base
round 2:  base  C  D  B  base      (the others take turns, so that none always follows the same)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from benchmarks.harness.document import Sample

Metrics = dict[str, float]
# Measures a variant once: measurement → metrics.
Measure = Callable[[], dict[str, Metrics]]


def order(variants: list[str], number: int) -> list[tuple[str, bool]]:
    """Who is measured in a round, and whether it is the base's second time."""
    base, *others = variants
    turn = number % len(others) if others else 0
    turned = others[turn:] + others[:turn]
    return [(base, False), *((name, False) for name in turned), (base, True)]


def rounds(
    variants: Mapping[str, Measure],
    count: int,
    on_start: Callable[[str, int], None] = lambda _variant, _round: None,
) -> Iterator[Sample]:
    """Measures `count` rounds; the first variant is the base."""
    for number in range(count):
        for variant, again in order(list(variants), number):
            on_start(variant, number)
            for measurement, metrics in variants[variant]().items():
                yield Sample(measurement, variant, number, metrics, again)
