"""Checks a history and a final database against the whole promise."""

from __future__ import annotations

from tests.history import clocks, enqueues, leases, outcomes
from tests.history.events import Delivered, Enqueued, Reported
from tests.history.final import Final
from tests.history.history import History
from tests.history.verdict import PROMISE, Bounds, Verdict

NEEDS_JOURNAL = ("I5", "I6", "I8", "I9")
NEEDS_CLOCK = ("I6", "I9")


def check(history: History, final: Final, bounds: Bounds | None = None) -> Verdict:
    """The verdict. An invariant that cannot be judged is named with the reason, never passed over."""
    bounds = bounds or Bounds()
    verdict = Verdict(counts=count(history))
    checks = {
        "I1": lambda: enqueues.check_i1(history, final),
        "I2": lambda: outcomes.check_i2(history, final),
        "I3": lambda: leases.check_i3(history, final),
        "I4": lambda: outcomes.check_i4(history, final),
        "I5": lambda: leases.check_i5(history, final),
        "I6": lambda: clocks.check_i6(history, final, bounds),
        "I7": lambda: enqueues.check_i7(history, final),
        "I8": lambda: clocks.check_i8(history, final),
        "I9": lambda: clocks.check_i9(history, final),
    }
    for name in PROMISE:
        if name in NEEDS_JOURNAL and not final.journaled:
            verdict.unjudged[name] = "the database has no journal (tests/history/journal.sql)"
        elif name in NEEDS_CLOCK and not history.has_clock:
            verdict.unjudged[name] = "the history has no clock event"
        else:
            verdict.violations += checks[name]()
    return verdict


def count(history: History) -> dict[str, int]:
    """What the history holds."""
    reports = history.of(Reported)
    acknowledged = {e.key for e in history.of(Enqueued) if e.answer == enqueues.OK}
    return {
        "jobs": len(acknowledged),
        "deliveries": len(history.of(Delivered)),
        "reports": len(reports),
        "refused": sum(r.answer in ("stale", "not_found") for r in reports),
        "repeated": sum(r.answer == "already_applied" for r in reports),
    }
