"""I3 and I5: fences and deliveries."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from tests.history.events import Delivered, JobKey
from tests.history.final import Final, Move
from tests.history.history import History
from tests.history.verdict import Violations, fell, name_of

# What lets a job be delivered once more, by the cause of its arrival in ready or scheduled: expired,
# deadline, fail, unknown kind, snoozed, released, reconciled, redriven.
AGAIN = frozenset("xdfkslcr")


def check_i3(history: History, final: Final) -> Violations:
    """Every fence once; within a job they rise with the count of deliveries and never fall."""
    holders: dict[int, Delivered] = {}
    for delivery in history.of(Delivered):
        first = holders.setdefault(delivery.fence, delivery)
        if first is not delivery:
            what = f"fence {delivery.fence} was issued to {name_of(first.key)} as well"
            yield fell("I3", delivery.key, what, first, delivery)
    for key, deliveries in history.by_job(Delivered).items():
        yield from _fences_rise(key, deliveries)
        standings = final.standings.get(key, [])
        highest = max(deliveries, key=lambda d: d.fence)
        if len(standings) == 1 and standings[0].fence < highest.fence:
            what = f"was delivered under fence {highest.fence}; the last one on record is {standings[0].fence}"
            yield fell("I3", key, what, highest)
    yield from _journal_fences(final)


def _fences_rise(key: JobKey, deliveries: list[Delivered]) -> Violations:
    # By the database's count: a worker that was stopped writes its line late.
    ordered = sorted(deliveries, key=lambda d: (d.deliveries, d.fence))
    for before, after in pairwise(ordered):
        if after.fence < before.fence:
            what = f"fence fell from {before.fence} to {after.fence}"
            yield fell("I3", key, what, before, after)


def _journal_fences(final: Final) -> Violations:
    holders: dict[int, Move] = {}
    for move in final.moves:
        if move.place == "leased":
            first = holders.setdefault(move.fence, move)
            if first is not move:
                what = (
                    f"fence {move.fence} was issued twice (moves {first.number} and {move.number})"
                )
                yield fell("I3", move.key, what)
    for key, moves in final.moves_by_job().items():
        highest = 0
        for move in moves:
            if move.place != "gone" and move.fence < highest:
                what = f"fence fell from {highest} to {move.fence} (move {move.number})"
                yield fell("I3", key, what)
            highest = 0 if move.place == "gone" else max(highest, move.fence)


def check_i5(history: History, final: Final) -> Violations:
    """No more leases than reasons for one; no delivery that the database does not know."""
    moves_of = final.moves_by_job()
    for key, moves in moves_of.items():
        leases = sum(move.place == "leased" for move in moves)
        reasons = sum(
            move.cause in AGAIN and move.place in ("ready", "scheduled") for move in moves
        )
        if leases > 1 + reasons:
            yield fell(
                "I5", key, f"was leased {leases} times with {reasons} reasons to lease it again"
            )
        for before, after in pairwise(moves):
            if before.place == after.place == "leased":
                what = f"was leased twice at once (moves {before.number} and {after.number})"
                yield fell("I5", key, what)
    known: dict[JobKey, set[int]] = defaultdict(set)
    for move in final.moves:
        if move.place == "leased":
            known[move.key].add(move.fence)
    for delivery in history.of(Delivered):
        if delivery.fence not in known[delivery.key]:
            what = f"was delivered under fence {delivery.fence}, and no such lease was committed"
            yield fell("I5", delivery.key, what, delivery)
