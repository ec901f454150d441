"""I1 and I7: what was enqueued is there, once, as it was handed in."""

from __future__ import annotations

from tests.history.events import Delivered, Enqueued, JobKey, Purged
from tests.history.final import Final
from tests.history.history import History
from tests.history.verdict import Violations, fell

OK = "ok"
CONFLICT = "JOB_ID_CONFLICT"


def check_i1(history: History, final: Final) -> Violations:
    """Every acknowledged job has its body and stands somewhere, unless it was purged."""
    purged = history.by_job(Purged)
    for key, told in history.by_job(Enqueued).items():
        acknowledged = [e for e in told if e.answer == OK]
        if not acknowledged or key in purged:
            continue
        if key not in final.bodies:
            yield fell("I1", key, "was acknowledged and its body is gone", acknowledged[0])
        elif final.bodies[key] not in {e.body for e in acknowledged}:
            yield fell("I1", key, "was acknowledged and another body is stored", acknowledged[0])
        elif not final.standings.get(key):
            yield fell("I1", key, "was acknowledged and stands nowhere", acknowledged[0])
    known = history.by_job(Enqueued)
    for key in final.bodies:
        if key not in known and not final.standings.get(key):
            yield fell("I1", key, "has a body and stands nowhere")
    yield from _delivered_as_enqueued(history, final)


def _delivered_as_enqueued(history: History, final: Final) -> Violations:
    for delivery in history.of(Delivered):
        stored = final.bodies.get(delivery.key)
        if delivery.body and stored and delivery.body != stored:
            yield fell("I1", delivery.key, "was delivered with another body", delivery)


def check_i7(history: History, final: Final) -> Violations:
    """One id, one job, one answer; another body is a conflict."""
    for key, told in history.by_job(Enqueued).items():
        yield from _same_answer(key, told)
    for key, moves in final.moves_by_job().items():
        born = 0
        for move in moves:
            born = 0 if move.place == "gone" else born + (move.cause == "e")
            if born == 2 and move.cause == "e":
                yield fell("I7", key, f"was created a second time (move {move.number})")


def _same_answer(key: JobKey, told: list[Enqueued]) -> Violations:
    # Answers come in any order; what counts is which body was taken.
    taken = [e for e in told if e.answer == OK]
    bodies = {e.body for e in taken}
    if len(bodies) > 1:
        yield fell("I7", key, "was acknowledged with two bodies", *taken)
    for event in told:
        if event.answer == CONFLICT and event.body in bodies:
            yield fell("I7", key, "the same id and body got another answer", taken[0], event)
