"""Outcomes of one lease that wait for the same commit."""

from __future__ import annotations

from atlasqueue_server.domain.report import by_distinct_fences
from atlasqueue_server.model.jobs import OutcomeKind
from tests.factories import outcome_of


def test_of_a_lease_that_is_told_twice_the_first_decides() -> None:
    outcomes = [outcome_of("q", "j", fence, OutcomeKind.RELEASE) for fence in (7, 8, 7, 9, 7, 8)]
    assert list(by_distinct_fences(outcomes)) == [[0, 1, 3], [2, 5], [4]]
