"""The model's rows, as real.STATE writes those of the database; and the invariants that need no database.

I6 speaks of time that passes, which stands still here: the fault tests have it.
"""

from __future__ import annotations

from collections.abc import Iterable

from atlasqueue_server.model.jobs import OutcomeKind
from atlasqueue_server.model.states import FINAL, State
from tests.machine.nouns import Answer, Job, Key, Lease, Told
from tests.machine.pure import Model

Rows = dict[str, set[tuple[str, ...]]]
DEPTHS = (
    State.SCHEDULED,
    State.READY,
    State.LEASED,
    State.DEAD,
    State.SUCCEEDED,
    State.CANCELLED,
)
TERMINAL = frozenset({OutcomeKind.COMPLETE, OutcomeKind.CANCEL, OutcomeKind.REJECT})


def _text(value: object) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _place(key: Key, job: Job) -> tuple[str, ...]:
    final = job.state in FINAL
    is_over = bool(job.turn) if job.state is State.SCHEDULED else bool(job.past_deadline)
    values = (
        *key,
        job.state.value,
        None if final else job.body.priority,
        job.attempt,
        job.crashes,
        job.deliveries,
        job.fence,
        job.cause,
        job.session,
        job.cancel_requested,
        is_over,
        job.fence if job.state is State.SUCCEEDED else None,
    )
    return tuple(map(_text, values))


def rows_of(model: Model) -> Rows:
    """Every row that the database should have."""
    rows: Rows = {
        "place": {_place(key, job) for key, job in model.jobs.items()},
        "body": {(*key, job.body.payload) for key, job in model.jobs.items()},
        "failure": {
            (*key, *map(_text, failed))
            for key, job in model.jobs.items()
            for failed in job.failures
        },
        "checkpoint": {
            (*key, str(fence), str(percent), str(percent))
            for key, job in model.jobs.items()
            if job.checkpoint is not None
            for fence, percent in [job.checkpoint]
        },
        "session": {
            (str(at), str(s.epoch), _text(s.lost), _text(bool(s.silent)))
            for at, s in model.sessions.items()
        },
        "queue": {(name, _text(paused)) for name, paused in model.paused.items()},
    }
    if model.leader is not None:
        at = model.leader
        rows["leader"] = {(str(at.term), at.holder, _text(at.over), at.ticked)}
    for queue in model.paused:
        states = [job.state for key, job in model.jobs.items() if key.queue == queue]
        counts = tuple(str(states.count(state)) for state in DEPTHS)
        if states:
            rows.setdefault("depth", set()).add((queue, *counts))
    return {kind: found for kind, found in rows.items() if found}


def difference(should: Rows, does: Rows) -> str:
    """What the two do not share, in lines; empty when they are the same."""
    lines = []
    for kind in sorted({*should, *does}):
        ours, theirs = should.get(kind, set()), does.get(kind, set())
        lines += [
            f"  only in the model:    {kind} {' '.join(row)}" for row in sorted(ours - theirs)
        ]
        lines += [
            f"  only in the database: {kind} {' '.join(row)}" for row in sorted(theirs - ours)
        ]
    return "\n".join(lines)


class History:
    """What callers were told, checked against the database's rows: the invariants I1 to I5 and I7."""

    def __init__(self) -> None:
        self._acknowledged: set[Key] = set()
        self._told: dict[Lease, OutcomeKind] = {}
        self._fences: dict[Key, int] = {}
        self._ended: dict[Key, Lease] = {}

    def enqueued(self, key: Key) -> None:
        """The caller was told that the job is stored."""
        self._acknowledged.add(key)

    def leased(self, lease: Lease) -> None:
        """A worker was given the job."""
        assert lease.fence > self._fences.get(lease.key, 0), f"I3: the fences of {lease} fall"
        assert lease.fence not in self._fences.values(), f"I3: {lease} is issued twice"
        self._fences[lease.key] = lease.fence

    def reported(self, told: Told, answer: Answer) -> None:
        """The worker was told what became of its outcome."""
        if answer.state is None:
            return
        assert told.lease not in self._told, f"I2: two outcomes accepted under {told.lease}"
        self._told[told.lease] = told.kind
        if told.kind in TERMINAL or answer.state is State.DEAD:
            ended = self._ended.setdefault(told.lease.key, told.lease)
            assert ended == told.lease, f"I2: {ended} had ended the job, and so did {told.lease}"

    def redriven(self, keys: Iterable[Key]) -> None:
        """The jobs start again."""
        for key in keys:
            self._ended.pop(key, None)

    def purged(self, keys: Iterable[Key]) -> None:
        """The jobs are gone by the operator's will."""
        gone = set(keys)
        self._acknowledged -= gone
        self._ended = {key: lease for key, lease in self._ended.items() if key not in gone}
        self._told = {lease: kind for lease, kind in self._told.items() if lease.key not in gone}

    def check(self, rows: Rows, model: Model) -> None:
        """The database's rows keep what was told."""
        places = {Key(row[0], row[1]): row for row in rows.get("place", set())}
        assert len(places) == len(rows.get("place", set())), "I1: a job is in two places"
        for key in self._acknowledged:
            assert key in places, f"I1: {key} is lost"
        for key, row in places.items():
            state, deliveries, fence, result = row[2], int(row[6]), int(row[7]), row[12]
            told = self._told.get(Lease(key, fence))
            succeeded = state == State.SUCCEEDED
            assert succeeded == (told is OutcomeKind.COMPLETE), f"I4: {row}, told {told}"
            assert not succeeded or result == str(fence), f"I4: another result than told: {row}"
            assert deliveries <= 1 + model.jobs[key].comebacks, f"I5: {row}"
