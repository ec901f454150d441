"""A queue that takes part, and how one is measured. Each measures the same, whatever the queue is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

TOOLS = Path(__file__).parents[2] / ".tools" / "peers"
HERE = Path(__file__).parent


# Where runners find the database: on a command line others could read the password.
URL_VARIABLE = "BENCH_DATABASE_URL"


class NotInstallable(Exception):
    """This machine cannot run it; the message says what is missing."""


@dataclass(frozen=True)
class Live:
    """A queue that is set up on a database: how its runner is called, and its own processes."""

    command: Sequence[str]
    processes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


class Contender(Protocol):
    """What the harness asks of a queue."""

    name: str
    # True as soon as none of %(jobs)s jobs is waiting or running, asked in the database of the run.
    settled_sql: str
    # More than this would take too long with it; None: as many as were asked for.
    jobs_max: int | None

    def install(self) -> None:
        """Makes it runnable, once. Raises NotInstallable."""

    def facts(self) -> dict[str, Any]:
        """Version, settings, and what differs in its contract."""

    @contextmanager
    def live(self, database_url: str, log: Path) -> Iterator[Live]:
        """Sets it up on an empty database."""

    def arguments(self, action: str, **options: object) -> list[str]:
        """What its runner is told for enqueue, work or produce."""


def flags(options: Mapping[str, object]) -> list[str]:
    """Options as a runner's command line has them; True is a bare flag, None and False are left out."""
    line: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        line.append(f"--{name.replace('_', '-')}")
        if value is not True:
            line.append(str(value))
    return line
