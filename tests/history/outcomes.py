"""I2 and I4: one accepted outcome, and the one stored is the one told."""

from __future__ import annotations

from itertools import pairwise

from tests.history.events import Cancelled, Delivered, JobKey, Purged, Redriven, Reported, Seen
from tests.history.final import Final, Move, Standing
from tests.history.history import History
from tests.history.verdict import Violations, fell

FINAL = ("succeeded", "cancelled")
TERMINAL = (*FINAL, "dead")
ACCEPTED = ("applied", "already_applied")
# Where an outcome leads for certain; ALREADY_APPLIED does not say.
LEADS_TO = {"complete": "succeeded", "cancel": "cancelled"}
# The cause that the journal notes for an outcome that brings the job back.
FAILURES = {"fail": "f", "reject": "r"}
CAUSES = {"fail": "f", "snooze": "s", "release": "l", "unknown_kind": "k"}


def _state(report: Reported) -> str:
    return report.state or LEADS_TO.get(report.outcome, "")


def _accepted_terminal(reports: list[Reported]) -> list[Reported]:
    return [r for r in reports if r.answer in ACCEPTED and _state(r) in TERMINAL]


def check_i2(history: History, final: Final) -> Violations:
    """At most one accepted terminal outcome between redrives; nothing after a final one."""
    redrives = history.by_job(Redriven)
    deliveries = history.by_job(Delivered)
    for key, reports in history.by_job(Reported).items():
        accepted = _accepted_terminal(reports)
        yield from _one_outcome(key, accepted, len(redrives.get(key, ())))
        for report in accepted:
            later = [d for d in deliveries.get(key, ()) if d.fence > report.fence]
            if _state(report) in FINAL and later:
                what = f"was {_state(report)} under fence {report.fence} and delivered again"
                yield fell("I2", key, what, report, later[0])
    for key, moves in final.moves_by_job().items():
        yield from _final_is_final(key, moves)
    for key, standings in final.standings.items():
        if len(standings) > 1:
            places = ", ".join(s.place for s in standings)
            yield fell("I2", key, f"stands in several places: {places}")


def _one_outcome(key: JobKey, accepted: list[Reported], redrives: int) -> Violations:
    outcomes = {(r.fence, r.outcome): r for r in accepted}
    by_fence = dict(outcomes)
    if len(outcomes) > len(by_fence):
        yield fell("I2", key, "two outcomes were accepted under one fence", *outcomes.values())
    elif len(outcomes) > 1 + redrives:
        what = f"{len(outcomes)} terminal outcomes were accepted with {redrives} redrives"
        yield fell("I2", key, what, *outcomes.values())


def _final_is_final(key: JobKey, moves: list[Move]) -> Violations:
    for before, after in pairwise(moves):
        if after.place == "gone":
            continue
        moved = f"moves {before.number} and {after.number}"
        if before.place in FINAL:
            yield fell("I2", key, f"went from {before.place} to {after.place} ({moved})")
        elif before.place == "dead" and after.cause != "r":
            yield fell("I2", key, f"went from dead to {after.place} without a redrive ({moved})")


def check_i4(history: History, final: Final) -> Violations:
    """Told applied is stored; stored is not told stale; a cancel answered is a cancel."""
    redriven, purged = history.by_job(Redriven), history.by_job(Purged)
    moves = final.moves_by_job()
    for key, reports in history.by_job(Reported).items():
        if key in purged:
            continue
        standing = _standing(final, key)
        for report in reports:
            if report.answer in ACCEPTED:
                yield from _told_is_stored(
                    report, standing, final, moves.get(key, []), key in redriven
                )
            else:
                yield from _stored_is_told(report, standing)
    yield from _cancels_and_reads(history, final)


def _standing(final: Final, key: JobKey) -> Standing | None:
    standings = final.standings.get(key, [])
    return standings[0] if len(standings) == 1 else None


def _told_is_stored(
    report: Reported, standing: Standing | None, final: Final, moves: list[Move], redriven: bool
) -> Violations:
    told = _state(report)
    if told in FINAL or (told == "dead" and not redriven):
        if standing is None or (standing.place, standing.fence) != (told, report.fence):
            found = f"{standing.place} under fence {standing.fence}" if standing else "nothing"
            what = f"told {told} under fence {report.fence}, stored is {found}"
            yield fell("I4", report.key, what, report)
        elif told == "succeeded" and report.result and report.result != standing.result:
            yield fell("I4", report.key, "told succeeded, and another result is stored", report)
    elif report.outcome in FAILURES:
        if (report.key, report.fence, FAILURES[report.outcome]) not in final.failures:
            yield fell(
                "I4", report.key, "told that the failure was applied; none is stored", report
            )
    elif final.journaled and told in ("ready", "scheduled"):
        wanted = (told, CAUSES.get(report.outcome, ""), report.fence)
        if wanted not in {(m.place, m.cause, m.fence) for m in moves}:
            what = (
                f"told {report.outcome} applied under fence {report.fence}; no such move was made"
            )
            yield fell("I4", report.key, what, report)


def _stored_is_told(report: Reported, standing: Standing | None) -> Violations:
    stored = (
        standing is not None
        and standing.fence == report.fence
        and standing.place == LEADS_TO.get(report.outcome)
        and (not report.result or report.result == standing.result)
    )
    if stored:
        what = f"told {report.answer}, and this very outcome is stored"
        yield fell("I4", report.key, what, report)


def _cancels_and_reads(history: History, final: Final) -> Violations:
    purged = history.by_job(Purged)
    for cancel in history.of(Cancelled):
        standing = _standing(final, cancel.key)
        place = standing.place if standing else "nothing"
        if cancel.answer == "cancelled" and place != "cancelled":
            yield fell("I4", cancel.key, f"its cancel was confirmed, stored is {place}", cancel)
        if cancel.answer == "JOB_FINAL" and place not in FINAL:
            yield fell("I4", cancel.key, f"was told to be final, stored is {place}", cancel)
    for seen in history.of(Seen):
        standing = _standing(final, seen.key)
        if seen.state not in FINAL or seen.key in purged:
            continue
        if standing is None or standing.place != seen.state:
            what = f"was seen {seen.state}, stored is {standing.place if standing else 'nothing'}"
            yield fell("I4", seen.key, what, seen)
        elif seen.result and seen.result != standing.result:
            yield fell("I4", seen.key, "was seen with another result than is stored", seen)
