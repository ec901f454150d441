"""The states of a job and the table of every verb that moves it.

   enqueue                 lease                  complete
∅ ─────────┬──────▶ ready ───────▶ leased ──────────────────▶ succeeded
           │         ▲ ▲ ▲           │ │ │
   run_at  ▼ promote │ │ │ release   │ │ └── cancel ─────────▶ cancelled
        scheduled ───┘ │ └ reconcile ┘ │                       ▲
           ▲ │         │               │ fail, snooze, expire  │
           │ └─────────┼───────────────┼── cancel ─────────────┘
           └───────────┼───────────────┤
                       │ redrive       │ fail, reject, expire
                       └──── dead ◀────┘   dead ── purge ──▶ ∅
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a job stands. A state has the table of its name; the two final ones are in finished, dead in dead_letters."""

    SCHEDULED = "scheduled"  # left by promote when run_at has come, or by cancel
    READY = "ready"  # left by lease or cancel
    LEASED = "leased"  # left by every verb of a worker, by reconcile, expire and cancel
    SUCCEEDED = "succeeded"  # final; left by prune
    CANCELLED = "cancelled"  # final; left by prune
    DEAD = "dead"  # left by redrive, purge or prune


FINAL: Final = frozenset({State.SUCCEEDED, State.CANCELLED})
# WatchJob ends here: nothing moves the job further by itself.
SETTLED: Final = FINAL | {State.DEAD}
# What a cancel reaches.
OPEN: Final = frozenset({State.SCHEDULED, State.READY, State.LEASED})


class Verb(StrEnum):
    """What moves a job."""

    ENQUEUE = "enqueue"
    PROMOTE = "promote"
    LEASE = "lease"
    HEARTBEAT = "heartbeat"
    COMPLETE = "complete"
    FAIL = "fail"
    REJECT = "reject"
    SNOOZE = "snooze"
    RELEASE = "release"
    UNKNOWN_KIND = "unknown_kind"
    RECONCILE = "reconcile"
    EXPIRE = "expire"
    CANCEL = "cancel"
    REDRIVE = "redrive"
    PURGE = "purge"
    PRUNE = "prune"


class Gone(StrEnum):
    """The absence of a job, before enqueue and after prune or purge."""

    GONE = "gone"


Place = State | Gone

# (verb, from) → the places that the job may be in afterwards. A pair that is not here is refused.
TRANSITIONS: Final[dict[tuple[Verb, Place], frozenset[Place]]] = {
    (Verb.ENQUEUE, Gone.GONE): frozenset({State.READY, State.SCHEDULED}),
    (Verb.PROMOTE, State.SCHEDULED): frozenset({State.READY}),
    (Verb.LEASE, State.READY): frozenset({State.LEASED}),
    (Verb.HEARTBEAT, State.LEASED): frozenset({State.LEASED}),
    (Verb.COMPLETE, State.LEASED): frozenset({State.SUCCEEDED}),
    (Verb.FAIL, State.LEASED): frozenset({State.SCHEDULED, State.DEAD, State.CANCELLED}),
    (Verb.REJECT, State.LEASED): frozenset({State.DEAD, State.CANCELLED}),
    (Verb.SNOOZE, State.LEASED): frozenset({State.SCHEDULED, State.CANCELLED}),
    (Verb.RELEASE, State.LEASED): frozenset({State.READY, State.CANCELLED}),
    (Verb.UNKNOWN_KIND, State.LEASED): frozenset({State.SCHEDULED, State.DEAD, State.CANCELLED}),
    (Verb.RECONCILE, State.LEASED): frozenset({State.READY, State.CANCELLED}),
    (Verb.EXPIRE, State.LEASED): frozenset({State.SCHEDULED, State.DEAD, State.CANCELLED}),
    (Verb.CANCEL, State.SCHEDULED): frozenset({State.CANCELLED}),
    (Verb.CANCEL, State.READY): frozenset({State.CANCELLED}),
    (Verb.CANCEL, State.LEASED): frozenset({State.LEASED, State.CANCELLED}),
    (Verb.REDRIVE, State.DEAD): frozenset({State.READY}),
    (Verb.PURGE, State.DEAD): frozenset({Gone.GONE}),
    (Verb.PRUNE, State.SUCCEEDED): frozenset({Gone.GONE}),
    (Verb.PRUNE, State.CANCELLED): frozenset({Gone.GONE}),
    (Verb.PRUNE, State.DEAD): frozenset({Gone.GONE}),
}


def allowed(verb: Verb, place: Place) -> bool:
    """Whether `verb` may move a job that is in `place`."""
    return (verb, place) in TRANSITIONS
