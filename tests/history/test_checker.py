"""The checker rejects a bad history for each invariant, naming it and the lines, and accepts good ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.history.events import (
    Cancelled,
    Clock,
    Enqueued,
    Outage,
    Process,
    Purged,
    Redriven,
    Seen,
    Statement,
)
from tests.history.final import Standing
from tests.history.story import QUEUE, Story
from tests.history.verdict import PROMISE

Tale = Callable[[Story], None]


def two_runs(story: Story) -> None:
    """A worker is stopped, its lease expires, another completes; then it reports and is refused."""
    story.enqueue("a")
    story.tick(seconds=1)
    story.lease("a", 1, "w1")
    story.tell(Process, who="w1", state="stopping")
    story.tick(seconds=4)
    story.expire("w1", ["a"])
    story.move("a", "ready", "p")
    story.lease("a", 2, "w2")
    story.report("a", 2, "complete", "w2")
    story.tell(Process, who="w1", state="continued")
    story.answer("a", 1, "complete", "stale", "w1", result="by 1")


def every_way_back(story: Story) -> None:
    """Fail, snooze, release, reconcile, reject, redrive, complete; the last answer is repeated."""
    story.enqueue("a")
    for fence, outcome in enumerate(("fail", "snooze", "release"), 1):
        story.lease("a", fence)
        story.report("a", fence, outcome)
        if outcome != "release":
            story.move("a", "ready", "p")
    story.lease("a", 4)
    story.move("a", "ready", "c")
    story.lease("a", 5)
    story.report("a", 5, "reject")
    story.tell(Redriven, queue=QUEUE, job_id="a")
    story.move("a", "ready", "r")
    story.lease("a", 6)
    story.report("a", 6)
    story.answer("a", 6, "complete", "already_applied", result="by 6")
    story.tell(Seen, queue=QUEUE, job_id="a", state="succeeded", result="by 6")


def repeated_enqueues(story: Story) -> None:
    """The same id again, with the same body and with another one; a cancel; a purge."""
    story.enqueue("a")
    story.tell(Enqueued, queue=QUEUE, job_id="a", body="body")
    story.tell(Enqueued, queue=QUEUE, job_id="a", body="other", answer="JOB_ID_CONFLICT")
    story.move("a", "cancelled")
    story.tell(Cancelled, queue=QUEUE, job_id="a", answer="cancelled")
    story.tell(Cancelled, queue=QUEUE, job_id="a", answer="JOB_FINAL")
    story.enqueue("b")
    story.lease("b", 1)
    story.report("b", 1, "reject")
    story.tell(Purged, queue=QUEUE, job_id="b")
    story.move("b", "gone")
    del story.final.bodies[QUEUE, "b"], story.final.standings[QUEUE, "b"]


def outage_with_grace(story: Story) -> None:
    """No leader ticks for 20 s; then the killed worker's lease expires in time, the living one's not."""
    story.enqueue("a")
    story.enqueue("b")
    story.tick(seconds=1)
    story.lease("a", 1, "w1")
    story.lease("b", 2, "w2")
    story.tell(Outage, who="database", ended=False)
    story.kill("w1")
    story.now += 20
    story.tell(Outage, who="database", ended=True)
    story.tick(term=2, seconds=4)
    story.expire("w1", ["a"])
    story.live("w2", 0, story.now)
    story.report("b", 2, worker="w2")


def change_of_leader(story: Story) -> None:
    """Each leader promotes in its own term."""
    story.enqueue("a")
    story.tick(term=1, seconds=1)
    story.lease("a", 1)
    story.report("a", 1, "fail")
    story.leader = "server_2"
    story.tick(term=2, seconds=1)
    story.move("a", "ready", "p")


@pytest.mark.parametrize(
    "tale", [two_runs, every_way_back, repeated_enqueues, outage_with_grace, change_of_leader]
)
def test_a_good_history_is_accepted(tale: Tale) -> None:
    story = Story()
    tale(story)
    verdict = story.check()
    assert [str(v) for v in verdict.violations] == []
    assert not verdict.unjudged


def lost_body(story: Story) -> None:
    story.enqueue("a")
    story.final.bodies.clear()
    story.final.standings.clear()


def lost_row(story: Story) -> None:
    every_way_back(story)
    story.enqueue("a lost one")
    del story.final.standings[QUEUE, "a lost one"]


def another_body_stored(story: Story) -> None:
    story.enqueue("a")
    story.final.bodies[QUEUE, "a"] = "garbled"


def another_body_delivered(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1)
    story.deliver("a", 1, 1, body="garbled")
    del story.events[-2]


def two_accepted_outcomes(story: Story) -> None:
    two_runs(story)
    story.answer("a", 1, "complete", "applied", "w1", state="succeeded")


def two_outcomes_under_one_fence(story: Story) -> None:
    every_way_back(story)
    story.answer("a", 6, "cancel", "applied", state="cancelled")


def delivered_after_success(story: Story) -> None:
    every_way_back(story)
    story.deliver("a", 7, 7)


def moved_after_success(story: Story) -> None:
    every_way_back(story)
    story.move("a", "ready", "x")


def died_and_succeeded(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1)
    story.report("a", 1, "reject")
    story.move("a", "succeeded", fence=1)


def in_two_places(story: Story) -> None:
    every_way_back(story)
    story.final.standings[QUEUE, "a"].append(Standing("ready", 6, 6))


def fence_of_two_jobs(story: Story) -> None:
    story.enqueue("a")
    story.enqueue("b")
    story.lease("a", 1)
    story.lease("b", 1)


def fence_of_two_deliveries(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1, "w1")
    story.deliver("a", 1, 1, "w2")


def fence_falls(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 7)
    story.report("a", 7, "release")
    story.lease("a", 6)


def fence_forgotten_after_a_crash(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 7)
    story.final.standings[QUEUE, "a"] = [Standing("ready", 0, 0)]
    story.final.moves = [m for m in story.final.moves if m.place != "leased"]


def result_not_stored(story: Story) -> None:
    two_runs(story)
    story.final.standings[QUEUE, "a"] = [Standing("succeeded", 2, 2, "by 1")]


def told_success_but_died(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1)
    story.move("a", "dead", "r")
    story.answer("a", 1, "complete", "applied", state="succeeded")


def told_failure_but_none_stored(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1)
    story.report("a", 1, "fail")
    story.final.failures.clear()


def told_snoozed_but_released(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1)
    story.move("a", "ready", "l")
    story.answer("a", 1, "snooze", "applied", state="scheduled")


def told_stale_but_stored(story: Story) -> None:
    every_way_back(story)
    story.answer("a", 6, "complete", "stale", result="by 6")


def cancel_confirmed_but_ran(story: Story) -> None:
    every_way_back(story)
    story.tell(Cancelled, queue=QUEUE, job_id="a", answer="cancelled")


def seen_with_another_result(story: Story) -> None:
    every_way_back(story)
    story.bend(Seen, result="by 5")


def leased_without_a_reason(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1)
    story.move("a", "ready", "p")
    story.lease("a", 2)


def leased_twice_at_once(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1, "w1")
    story.lease("a", 2, "w2")


def delivered_but_never_leased(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1)
    story.deliver("a", 2, 2)
    story.final.standings[QUEUE, "a"] = [Standing("leased", 2, 2)]


def lease_outlives_worker(story: Story) -> None:
    story.enqueue("a")
    story.tick(seconds=1)
    story.lease("a", 1)
    story.kill("w1")
    story.tick(seconds=6)
    story.expire("w1", ["a"])


def lease_never_ends(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1)
    story.kill("w1")
    story.tick(seconds=6)


def two_bodies_acknowledged(story: Story) -> None:
    story.enqueue("a")
    story.tell(Enqueued, queue=QUEUE, job_id="a", body="other")


def repeat_refused(story: Story) -> None:
    story.enqueue("a")
    story.tell(Enqueued, queue=QUEUE, job_id="a", body="body", answer="JOB_ID_CONFLICT")


def created_twice(story: Story) -> None:
    story.enqueue("a")
    story.enqueue("a")


def old_leader_expires(story: Story) -> None:
    story.enqueue("a")
    story.lease("a", 1)
    story.tick(term=1, seconds=1)
    story.tick(term=2, seconds=1, actor="server_2")
    story.kill("w1")
    story.expire("w1", ["a"])


def old_leader_promotes(story: Story) -> None:
    change_of_leader(story)
    story.final.moves[-1] = replace(story.final.moves[-1], actor="server_1")


def old_term_changes_rows(story: Story) -> None:
    story.tell(Statement, name="promote_jobs_if_leader", term=1, newest=2, rows=3)


def living_worker_expired(story: Story) -> None:
    outage_with_grace(story)
    story.enqueue("c")
    story.lease("c", 3, "w2")
    story.tick(term=2, seconds=1)
    story.live("w2", 25, story.now)
    story.expire("w2", ["c"])


BAD: dict[str, list[Tale]] = {
    "I1": [lost_body, lost_row, another_body_stored, another_body_delivered],
    "I2": [
        two_accepted_outcomes,
        two_outcomes_under_one_fence,
        delivered_after_success,
        moved_after_success,
        died_and_succeeded,
        in_two_places,
    ],
    "I3": [fence_of_two_jobs, fence_of_two_deliveries, fence_falls, fence_forgotten_after_a_crash],
    "I4": [
        result_not_stored,
        told_success_but_died,
        told_failure_but_none_stored,
        told_snoozed_but_released,
        told_stale_but_stored,
        cancel_confirmed_but_ran,
        seen_with_another_result,
    ],
    "I5": [leased_without_a_reason, leased_twice_at_once, delivered_but_never_leased],
    "I6": [lease_outlives_worker, lease_never_ends],
    "I7": [two_bodies_acknowledged, repeat_refused, created_twice],
    "I8": [old_leader_expires, old_leader_promotes, old_term_changes_rows],
    "I9": [living_worker_expired],
}
# A row that stands twice or moves on after its end is wrong in more ways than one.
ALSO = {
    "I2": {"I1", "I3", "I4", "I5"},
    "I3": {"I1", "I5"},
    "I5": {"I3"},
    "I4": {"I2"},
    "I7": {"I1", "I5"},
}


def test_every_invariant_has_a_bad_history() -> None:
    assert set(BAD) == set(PROMISE)


@pytest.mark.parametrize(
    ("invariant", "tale"), [(name, tale) for name, tales in BAD.items() for tale in tales]
)
def test_a_bad_history_is_rejected_by_name(invariant: str, tale: Tale) -> None:
    story = Story()
    tale(story)
    verdict = story.check()
    assert invariant in verdict.fallen, [str(v) for v in verdict.violations]
    assert set(verdict.fallen) <= {invariant} | ALSO.get(invariant, set())


def test_a_violation_names_the_job_and_the_lines() -> None:
    story = Story()
    two_accepted_outcomes(story)
    (first, *_) = [v for v in story.check().violations if v.invariant == "I2"]
    assert first.job == "q/a"
    assert first.lines
    assert all(line.startswith("story:") for line in first.lines)
    assert "story:" in str(first)


def test_time_without_a_leader_is_not_counted_for_i6() -> None:
    story = Story()
    lease_outlives_worker(story)
    # The same with a hole in the ticks as long as the lease's second life.
    death = story.events[-1].at + 1000
    story.final.terms = [r for r in story.final.terms if not death + 1 < r.ticked < death + 3]
    assert story.check().fallen == []


@pytest.mark.parametrize("spoiled", ["worker", "witness", "link"])
def test_an_expiry_blames_nobody_while_the_worker_was_not_seen_to_live(spoiled: str) -> None:
    story = Story()
    living_worker_expired(story)
    end = story.now
    if spoiled == "worker":
        story.events = [e for e in story.events if e.who != "w2" or not end - 2 < e.at < end - 0.5]
    elif spoiled == "witness":
        story.live("driver", 0, end - 2)
    else:
        story.now = end - 2
        story.tell(Process, who="w2", state="cutting")
    assert story.check().fallen == []


def test_what_cannot_be_judged_is_said() -> None:
    story = Story()
    every_way_back(story)
    story.final.journaled = False
    story.events = [e for e in story.events if not isinstance(e, Clock)]
    verdict = story.check()
    assert verdict.ok
    assert set(verdict.unjudged) == {"I5", "I6", "I8", "I9"}


def test_counts() -> None:
    story = Story()
    two_runs(story)
    assert story.check().counts == {
        "jobs": 1,
        "deliveries": 2,
        "reports": 2,
        "refused": 1,
        "repeated": 0,
    }
