"""What a worker says has reached it, and what becomes of jobs whose lease is not its own any more."""

from __future__ import annotations

import pytest

from atlasqueue_worker import LeaseState, held
from atlasqueue_worker.held import NOTHING_ON_ITS_WAY, Held
from tests.worker.scripted import job


def test_the_highest_fence_stays_when_a_lower_one_comes_later() -> None:
    """Leases of several queues arrive in any order; told the lower one, a server would release what is held."""
    holds = Held()
    for fence in (5, 3):
        holds.add([job(fence)])
    assert holds.last_fence == 5


def test_a_fence_is_told_when_lower_ones_have_had_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told at once, a server would take back a lower one that is still on its way."""
    holds = Held()
    holds.add([job(5)])
    monkeypatch.setattr(held, "SETTLE_S", 1000.0)
    assert holds.snapshot()[1] == 0
    monkeypatch.setattr(held, "SETTLE_S", -1000.0)
    assert holds.snapshot()[1] == 5
    monkeypatch.setattr(held, "SETTLE_S", 1000.0)
    holds.add([job(9)])
    assert holds.snapshot()[1] == 5
    holds.no_more_arrive()
    assert holds.snapshot()[1] == NOTHING_ON_ITS_WAY


def test_a_lost_lease_is_told_to_its_job_alone() -> None:
    holds = Held()
    lost, other = job(1), job(2)
    holds.add([lost, other])
    assert holds.lose(1) is lost
    assert holds.lose(1) is None
    assert (lost.lease_state, lost.cancelled) == (LeaseState.LOST, True)
    assert (other.lease_state, other.cancelled) == (LeaseState.CERTAIN, False)
    assert holds.snapshot()[0] == [other]


def test_nothing_of_a_lost_session_goes_into_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    holds = Held()
    monkeypatch.setattr(held, "SETTLE_S", -1000.0)
    settled, arrived = job(5), job(9)
    holds.add([settled])
    assert holds.snapshot()[1] == 5
    holds.add([arrived])
    holds.lose_all()
    assert holds.snapshot() == ([], 0)
    assert holds.last_fence == 0
    assert {j.lease_state for j in (settled, arrived)} == {LeaseState.LOST}
    assert settled.cancelled
    assert arrived.cancelled


def test_jobs_are_uncertain_while_no_server_answers_and_lost_ones_stay_lost() -> None:
    holds = Held()
    before, lost, later = job(1), job(2), job(3)
    holds.add([before, lost])
    holds.lose(2)
    holds.set_uncertain(True)
    holds.add([later])
    assert [j.lease_state for j in (before, lost, later)] == ["uncertain", "lost", "uncertain"]
    holds.set_uncertain(False)
    assert [j.lease_state for j in (before, lost, later)] == ["certain", "lost", "certain"]


def test_what_was_not_brought_is_told_again_unless_something_newer_was() -> None:
    telling = job(1)
    telling.set_progress(10, "old")
    telling.save_checkpoint(b"page 7")
    holds = Held()
    (listed,), told, more = holds.to_proto([telling])
    assert (listed.progress.percent, listed.progress.note) == (10, "old")
    assert (listed.checkpoint, more) == (b"page 7", False)
    assert not telling.has_checkpoint_to_tell
    assert not holds.to_proto([telling])[1]
    telling.set_progress(120, "new")
    telling.give_back_told(told[1])
    (listed,), *_ = holds.to_proto([telling])
    assert (listed.progress.percent, listed.progress.note) == (100, "new")
    assert listed.checkpoint == b"page 7"
