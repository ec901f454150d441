"""A history as read: all events of all processes, in the order of their time."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from tests.history.events import KINDS, Clock, Event, JobKey, OfJob

E = TypeVar("E", bound=Event)
J = TypeVar("J", bound=OfJob)


class HistoryError(ValueError):
    """A line is no event; says which."""


class History:
    """Events by kind and by job."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = sorted(events, key=lambda e: e.at)
        self._by_kind: dict[type[Event], list[Event]] = defaultdict(list)
        for event in self.events:
            self._by_kind[type(event)].append(event)
        self._clocks = [(c.at, c.database - c.at) for c in self.of(Clock)]

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return self._by_kind[kind]  # type: ignore[return-value]

    def by_job(self, kind: type[J]) -> dict[JobKey, list[J]]:
        """The events of one kind, by job."""
        found: dict[JobKey, list[J]] = defaultdict(list)
        for event in self.of(kind):
            found[event.key].append(event)
        return found

    @property
    def has_clock(self) -> bool:
        """Whether times of the history can be told in the database's time."""
        return bool(self._clocks)

    def database_time(self, at: float) -> float:
        """A time of the history by the database's clock. Raises ValueError without a Clock event."""
        if not self._clocks:
            raise ValueError(
                "the history has no clock event: its times mean nothing to the database"
            )
        index = max(0, bisect_right(self._clocks, (at, float("inf"))) - 1)
        return at + self._clocks[index][1]


def read_history(paths: Iterable[Path]) -> History:
    """Reads files, and all *.jsonl of directories. Raises HistoryError naming file and line."""
    events: list[Event] = []
    for path in paths:
        files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not files:
            raise HistoryError(f"{path}: no *.jsonl in this directory")
        for file in files:
            events += _read(file)
    return History(events)


def _read(file: Path) -> list[Event]:
    lines = file.read_text("utf-8").split("\n")
    torn = lines.pop()  # what a killed process had not finished; "" when it had
    events = []
    for number, line in enumerate(lines, 1):
        where = f"{file.name}:{number}"
        try:
            values = json.loads(line)
            events.append(KINDS[values["event"]].from_json(values, where))
        except (ValueError, KeyError, TypeError) as error:
            raise HistoryError(f"{where}: no event of a history: {error!r}") from error
    if torn and not torn.startswith("{"):
        raise HistoryError(f"{file.name}:{len(lines) + 1}: no event of a history")
    return events
