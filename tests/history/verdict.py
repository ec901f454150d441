"""What the checker says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.history.events import Event, JobKey

PROMISE = {
    "I1": "an acknowledged enqueue is never lost",
    "I2": "between redrives a job has at most one accepted terminal outcome; succeeded and cancelled are final",
    "I3": "no fence value is ever issued twice, and the fences of one job only grow",
    "I4": "the outcome stored is the outcome that the caller was told",
    "I5": "deliveries <= 1 + expired + released + reconciled + retries + snoozes + redrives",
    "I6": "no lease outlives its worker by more than visibility timeout + 2 s in which a leader ticks",
    "I7": "an enqueue repeated with the same id creates one job and gets the same answer",
    "I8": "a statement carrying an old leader term changes no row once a newer term exists",
    "I9": "a lease whose worker lives is never expired because the server or the database was down",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that fell: which one, on which job (empty: on none), why, and the lines that show it."""

    invariant: str
    job: str
    what: str
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for people."""
        shown = [line for line in self.lines if line]
        where = f" [{', '.join(shown)}]" if shown else ""
        return f"{self.invariant} {self.job or '-'}: {self.what}{where}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the checker has to know of the run; seconds.

    expiry_slack_s: the "+ 2 s" of I6.
    tick_gap_s: a leader that ticked twice within it ticked in between.
    """

    expiry_slack_s: float = 2.0
    tick_gap_s: float = 1.0


@dataclass
class Verdict:
    """The invariants that fell, those that could not be judged and why, and what was counted."""

    violations: list[Violation] = field(default_factory=list)
    unjudged: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def fallen(self) -> list[str]:
        """The names of the invariants that fell."""
        return sorted({violation.invariant for violation in self.violations})

    @property
    def ok(self) -> bool:
        """Nothing fell."""
        return not self.violations


Violations = Iterator[Violation]


def name_of(key: JobKey) -> str:
    """A job, for people."""
    return f"{key[0]}/{key[1]}"


def fell(invariant: str, key: JobKey | None, what: str, *events: Event) -> Violation:
    """A violation, with the lines of the events that show it."""
    return Violation(invariant, name_of(key) if key else "", what, tuple(e.where for e in events))
