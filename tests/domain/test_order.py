"""The order of dispatch: fair hands, and a tenth for lower priorities."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from atlasqueue_server.domain.order import PRIORITIES, Reserve, interleave
from atlasqueue_server.model.limits import PRIORITY_RESERVE_SHARE

HANDS = st.lists(st.integers(-2, 30), max_size=12)


@given(HANDS, st.integers(0, 100))
def test_interleave_deals_all_credit_there_is(hands: list[int], most: int) -> None:
    dealt_to = list(enumerate(hands))
    dealt = Counter(interleave(dealt_to, most))
    assert sum(dealt.values()) == min(most, sum(credit for credit in hands if credit > 0))
    assert all(0 < dealt[session] <= hands[session] for session in dealt)


@given(HANDS, st.integers(0, 100))
def test_interleave_lets_nobody_wait_for_another(hands: list[int], most: int) -> None:
    """Whoever got less than its credit got at most one less than anybody else."""
    dealt = Counter(interleave(enumerate(hands), most))
    for session, credit in enumerate(hands):
        if 0 < credit and dealt[session] < credit:
            assert dealt[session] >= max(dealt.values(), default=0) - 1


@given(st.lists(st.integers(1, 600), min_size=1, max_size=200))
def test_reserve_keeps_its_share_over_time(leases: list[int]) -> None:
    """A tenth of all jobs so far, rounded down, whatever the sizes of the leases."""
    reserve = Reserve()
    jobs = reserved = 0
    for size in leases:
        strict, lower = reserve.split(size)
        assert strict + lower == size
        assert min(strict, lower) >= 0
        jobs += size
        reserved += lower
        assert reserved == jobs // PRIORITY_RESERVE_SHARE


def test_leases_of_one_job_are_reserved_too() -> None:
    reserve = Reserve()
    assert [reserve.split(1)[1] for _ in range(20)] == ([0] * 9 + [1]) * 2


def test_lower_first_takes_turns_and_forgets_no_priority() -> None:
    reserve = Reserve()
    orders = [reserve.lower_first() for _ in range(8)]
    assert all(sorted(order) == list(PRIORITIES) for order in orders)
    assert all(order[-1] == PRIORITIES[0] for order in orders)
    assert Counter(order[0] for order in orders) == dict.fromkeys(PRIORITIES[1:], 2)
