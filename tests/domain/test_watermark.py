"""The watermark: a hint that lags; whatever commits late is found by the sweep or by the rotation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atlasqueue_server.domain.watermark import CHEAP_S, LAG_S, SWEEP_S, WINDOW_SEQS, Watermark

# (seconds since the step before, how far the seq grows)
STEPS = st.lists(
    st.tuples(st.floats(0, 20, allow_nan=False), st.integers(1, 3 * WINDOW_SEQS)), max_size=60
)


def test_starts_at_nothing() -> None:
    mark = Watermark()
    assert (mark.floor(1e9), mark.sweep_floor(1e9), mark.next_window(1e9)) == (0, 0, None)


def test_floor_is_the_highest_seq_of_250_ms_ago() -> None:
    mark = Watermark()
    mark.record(100.0, 7)
    assert mark.floor(100.0 + LAG_S - 0.01) == 0
    assert mark.floor(100.0 + LAG_S) == 7
    assert mark.sweep_floor(100.0 + SWEEP_S - 0.01) == 0
    assert mark.sweep_floor(100.0 + SWEEP_S) == 7
    assert mark.floor(200.0) == 7


def test_rotation_covers_everything_below_the_sweep() -> None:
    mark = Watermark()
    mark.record(0.0, 2 * WINDOW_SEQS + 5)
    now = SWEEP_S + 1
    windows = [mark.next_window(now) for _ in range(4)]
    assert windows == [
        (0, WINDOW_SEQS),
        (WINDOW_SEQS, 2 * WINDOW_SEQS),
        (2 * WINDOW_SEQS, 2 * WINDOW_SEQS + 5),
        (0, WINDOW_SEQS),
    ]


def test_windows_grow_while_they_cost_little() -> None:
    """How it showed: after a billion jobs a late commit was found after hours."""
    mark = Watermark()
    mark.record(0.0, 10**9)
    now = SWEEP_S + 1
    ends = []
    while not ends or ends[-1] < 10**9:
        window = mark.next_window(now)
        assert window is not None
        assert window[0] == (ends[-1] if ends else 0)
        ends.append(window[1])
        mark.window_took(CHEAP_S / 2)
    assert len(ends) == 8
    assert mark.next_window(now) == (0, 10**9)
    for _ in range(10):
        mark.window_took(CHEAP_S)
    assert mark.next_window(now) == (0, WINDOW_SEQS)


@given(
    st.lists(
        # Many moments are so close that they share an entry; a sweep leases seqs from below.
        st.tuples(
            st.floats(0, 20) | st.floats(0, LAG_S / 2), st.integers(-WINDOW_SEQS, 3 * WINDOW_SEQS)
        ),
        max_size=60,
    )
)
def test_never_above_what_was_leased_that_long_ago(steps: list[tuple[float, int]]) -> None:
    """The floors are bounds by their definition, whatever the times; and they never fall."""
    mark = Watermark()
    now, seq = 0.0, 0
    record: list[tuple[float, int]] = []
    floors = (0, 0)
    for seconds, growth in steps:
        now += seconds
        seq = max(1, seq + growth)
        record.append((now, seq))
        mark.record(now, seq)
        before = floors
        floors = (mark.floor(now), mark.sweep_floor(now))
        assert floors[0] <= max((s for t, s in record if t <= now - LAG_S), default=0)
        assert floors[1] <= max((s for t, s in record if t <= now - SWEEP_S), default=0)
        assert floors[1] <= floors[0]
        assert floors >= before


@given(STEPS, st.integers(1, 10**7), st.lists(st.floats(0, 2 * CHEAP_S), min_size=1))
def test_a_late_commit_is_found_again(
    steps: list[tuple[float, int]], late: int, costs: list[float]
) -> None:
    """A row of any seq that becomes visible now is in the next sweep or in one turn of the rotation."""
    mark = Watermark()
    now, seq = 0.0, 0
    for seconds, growth in steps:
        now += seconds
        seq += growth
        mark.record(now, seq)
    for turn in range(seq // WINDOW_SEQS + 3):
        now += 1.0
        mark.window_took(costs[turn % len(costs)])
        window = mark.next_window(now)
        if late > mark.sweep_floor(now) or (window and window[0] < late <= window[1]):
            return
    raise AssertionError("never looked at")


def test_history_stays_small() -> None:
    mark = Watermark()
    for i in range(100_000):
        now = i / 1000
        mark.record(now, i)
        if i % 1000 == 0:
            mark.sweep_floor(now)
    assert len(mark._history) <= (SWEEP_S + 1) / (LAG_S / 5) + 2


def test_a_busy_lane_still_moves_on() -> None:
    """A record each millisecond: the floor stays within a moment of the 250 ms, it does not stick.

    Each record within 50 ms of the one before used to move the newest entry on, so that a lane that
    was never idle for 50 ms had a single entry that never grew old: its floor stayed at 0 for ever.
    """
    mark = Watermark()
    for i in range(1, 5000):
        mark.record(i / 1000, i)
    assert 4999 - 250 - 60 <= mark.floor(4.999) <= 4999 - 250
