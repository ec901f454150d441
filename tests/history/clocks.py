"""I6, I8 and I9: leaders, terms, and how long leases live.

The hard part is time. A lease may outlive its worker by its visibility timeout and 2 s "in which a leader
ticks": time counts only between two ticks of one term that are close together.

    ticks     t   t   t        (killed)            t   t   t   t
    counted   ├───┼───┤                            ├───┼───┼───┤

And a worker counts as alive only by its own word: a thread of it writes a line five times a second. Where
those lines have a hole (stopped, starved, killed), or the test's own witness has one (the whole machine
was starved), or its link was cut, an expiry blames nobody.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, pairwise

from tests.history.events import Alive, Outage, Process, Statement
from tests.history.final import Final, Move
from tests.history.history import History
from tests.history.verdict import Bounds, Violation, Violations, fell, name_of

WITNESS = "driver"
ENDED = ("killed", "ended")
LEAVING = ("killing", "stopping", "cutting")
RETURNED = ("continued", "healed", "killed", "ended")
# Verbs that only a leader may do: by cause of the arrival, and by the reason of a dead letter.
LEADERS_CAUSES = frozenset("xdp")
LEADERS_REASONS = frozenset("cd")


class Ticking:
    """The time in which a leader ticked."""

    def __init__(self, final: Final, bounds: Bounds) -> None:
        ticks = sorted({(row.ticked, row.term) for row in final.terms})
        spans = [
            (before, after)
            for (before, term), (after, next_term) in pairwise(ticks)
            if term == next_term and after - before <= bounds.tick_gap_s
        ]
        self._starts = [start for start, _ in spans]
        self._spans = spans
        self._sums = [0.0, *accumulate(end - start for start, end in spans)]

    def _until(self, time: float) -> float:
        index = bisect_right(self._starts, time)
        if not index:
            return 0.0
        _, end = self._spans[index - 1]
        return self._sums[index] - max(0.0, end - time)

    def between(self, start: float, end: float) -> float:
        """Seconds of it."""
        return self._until(end) - self._until(start)


def check_i6(history: History, final: Final, bounds: Bounds) -> Violations:
    """Leases of workers that ended are gone soon after."""
    ticking = Ticking(final, bounds)
    sessions = {row.session_id: row for row in final.sessions}
    deaths: dict[str, Process] = {}
    for event in history.of(Process):
        if event.state in ENDED:
            deaths.setdefault(event.who, event)
    for moves in final.moves_by_job().values():
        for move, after in zip(moves, [*moves[1:], None], strict=True):
            session = sessions.get(move.session_id)
            if move.place != "leased" or session is None or session.worker not in deaths:
                continue
            death = deaths[session.worker]
            died, ended = history.database_time(death.at), after.at if after else final.now
            outlived = ticking.between(died, ended)
            if ended > died and outlived > session.visibility_timeout_s + bounds.expiry_slack_s:
                what = (
                    f"its lease {move.fence} outlived worker {session.worker} by {outlived:.1f} s, "
                    f"with a visibility timeout of {session.visibility_timeout_s:g} s"
                )
                yield fell("I6", move.key, what, death)


def check_i8(history: History, final: Final) -> Violations:
    """No row moved by a leader's verb under a term that is known to be over."""
    for statement in history.of(Statement):
        if statement.rows and statement.newest > statement.term:
            what = (
                f"{statement.name} of term {statement.term} changed {statement.rows} rows "
                f"in term {statement.newest}"
            )
            yield fell("I8", None, what, statement)
    newest_at, highest = _newest_terms(final), _highest_terms(final)
    for began, actor, what, job in _leaders_acts(final):
        index = bisect_right(newest_at, (began, 0))
        newest = max((term for _, term in newest_at[:index]), default=0)
        if highest.get(actor, 0) < newest:
            mine = highest.get(actor, 0)
            said = f"{what} by {actor}, whose last term is {mine}, in term {newest}"
            yield Violation("I8", job, said)


def _newest_terms(final: Final) -> list[tuple[float, int]]:
    """When each term was known to exist: its second touch of the row began after its first committed."""
    touches: dict[int, list[float]] = defaultdict(list)
    for row in final.terms:
        touches[row.term].append(row.began)
    return sorted((sorted(began)[1], term) for term, began in touches.items() if len(began) > 1)


def _highest_terms(final: Final) -> dict[str, int]:
    highest: dict[str, int] = defaultdict(int)
    for row in final.terms:
        highest[row.actor] = max(highest[row.actor], row.term)
    return highest


def _leaders_acts(final: Final) -> list[tuple[float, str, str, str]]:
    acts = []
    for move in final.moves:
        by_leader = (
            move.cause in LEADERS_REASONS if move.place == "dead" else move.cause in LEADERS_CAUSES
        )
        if by_leader:
            what = f"move {move.number} to {move.place} (cause {move.cause}) was made"
            acts.append((move.began, move.actor, what, name_of(move.key)))
    for row in final.sessions:
        if row.lost:
            acts.append((row.began, row.actor, f"session {row.session_id} was lost", ""))
    return acts


def check_i9(history: History, final: Final) -> Violations:
    """No session with leases was lost while its worker lived and could be heard."""
    expired = _expired_by_session(final)
    alive: dict[str, list[float]] = defaultdict(list)
    for event in history.of(Alive):
        alive[event.who].append(history.database_time(event.at))
    away = _away(history)
    for session in final.sessions:
        jobs = expired.get(session.session_id, [])
        if not session.lost or not jobs or session.worker not in alive:
            continue
        start, end = session.at - session.visibility_timeout_s, session.at
        hole = session.visibility_timeout_s / 3
        lived = _covers(alive[session.worker], start, end, hole)
        fair = WITNESS not in alive or _covers(alive[WITNESS], start, end, hole)
        cut = any(a <= end and b >= start for a, b in away.get(session.worker, ()))
        if lived and fair and not cut:
            what = (
                f"{len(jobs)} leases of session {session.session_id} expired while worker "
                f"{session.worker} lived{_outages(history, start, end)}"
            )
            yield fell("I9", jobs[0].key, what)


def _expired_by_session(final: Final) -> dict[int, list[Move]]:
    expired: dict[int, list[Move]] = defaultdict(list)
    for moves in final.moves_by_job().values():
        for move, after in pairwise(moves):
            dead = after.place == "dead" and after.cause == "c"
            if move.place == "leased" and (after.cause == "x" or dead):
                expired[move.session_id].append(move)
    return expired


def _covers(times: Sequence[float], start: float, end: float, hole: float) -> bool:
    """Whether the times (sorted) have no hole between start and end."""
    first = max(0, bisect_left(times, start) - 1)
    chain = list(times[first : bisect_right(times, end) + 1])
    if not chain or chain[0] > start or chain[-1] < end - hole:
        return False
    return all(after - before <= hole for before, after in pairwise(chain))


def _away(history: History) -> dict[str, list[tuple[float, float]]]:
    """When a process could not be heard, by what was done to it."""
    since: dict[str, float] = {}
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for event in history.of(Process):
        time = history.database_time(event.at)
        if event.state in LEAVING:
            since.setdefault(event.who, time)
        elif event.state in RETURNED and event.who in since:
            spans[event.who].append((since.pop(event.who), time))
    for who, time in since.items():
        spans[who].append((time, float("inf")))
    return spans


def _outages(history: History, start: float, end: float) -> str:
    near = [
        event.who
        for event in history.of(Outage)
        if start - 60 <= history.database_time(event.at) <= end
    ]
    return f"; of late away: {', '.join(sorted(set(near)))}" if near else ""
