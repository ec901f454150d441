"""Reads the cases: one YAML file a subject, in it the cases by name.

    results_come_back:
      title: What a handler returns is the job's result
      steps:
        - call: start_worker
          kinds: {greet: {complete: {text: hello}}}
        - call: enqueue
          job: {kind: greet}
          as: job
        - call: wait
          job_id: $job.job_id
          expect: {state: SUCCEEDED, result: {text: hello}}

A step is one of ACTIONS; player.py tells what each does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parent / "cases"

# What a step may be, and which keys it may have besides; a call has its arguments as well.
ACTIONS: dict[str, frozenset[str]] = {
    "call": frozenset({"as", "expect", "refused", "until", "background"}),
    "join": frozenset({"as", "expect", "refused"}),
    "event": frozenset({"as", "expect"}),
    "events": frozenset({"count"}),
    "open": frozenset(),
    "server": frozenset(),
    "link": frozenset(),
    "executor": frozenset(),
    "rival": frozenset({"as", "expect", "worker", "job", "result", "until"}),
}
# Steps that other cases would feel: a case with one of them is played alone.
DISTURBING = frozenset({"server", "link", "executor"})


@dataclass(frozen=True)
class Case:
    """A case. `catches`: the faults of executors/broken.py that must fail it."""

    name: str
    subject: str
    title: str
    steps: list[dict[str, Any]]
    catches: list[str] = field(default_factory=list)

    @property
    def alone(self) -> bool:
        """Whether it disturbs others: it breaks links, or stops server or executor."""
        return any(DISTURBING & set(step) for step in self.steps)


def read_cases(directory: Path = DIRECTORY) -> list[Case]:
    """All cases, by file, in the order of the file. Raises ValueError for one that is no case."""
    cases: list[Case] = []
    for file in sorted(directory.glob("*.yaml")):
        for name, values in yaml.safe_load(file.read_text("utf-8")).items():
            try:
                case = Case(name, file.stem, **values)
                _check(case)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{file.name}: {name}: {error}") from None
            cases.append(case)
    names = [case.name for case in cases]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two cases are called {', '.join(sorted(twice))}")
    return cases


def _check(case: Case) -> None:
    if not case.steps:
        raise ValueError("it has no steps")
    for number, step in enumerate(case.steps, 1):
        actions = [action for action in ACTIONS if action in step]
        if len(actions) != 1:
            raise ValueError(f"step {number} must be one of {', '.join(ACTIONS)}")
        action = actions[0]
        unknown = set(step) - ACTIONS[action] - {action}
        if unknown and action != "call":
            raise ValueError(f"step {number} ({action}) has no {', '.join(sorted(unknown))}")
        if action == "rival" or "expect" not in step:
            continue
        if {"refused", "until"} & set(step):
            raise ValueError(f"step {number} has two expectations")
