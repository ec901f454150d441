"""The store does what the model does, and the machine would see it if it did not.

`make test` runs a few seeds, the same ones each time. `make model SEEDS=10000`, or ATLASQUEUE_MODEL_SEEDS,
runs as many as you like, other ones each time; a failure prints the verbs that lead to it, made as few as
possible, and a line that reproduces it.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import Phase

from atlasqueue_server.store import statements
from tests.machine.machine import STEPS, run
from tests.machine.real import Real

SEEDS_VARIABLE = "ATLASQUEUE_MODEL_SEEDS"
SEEDS_SHORT = 40
# Each shard can run on a core of its own.
SHARDS = 2
SQL = Path(statements.__file__).parent / "sql"

# What each shard of the short run must meet for its silence to mean anything. Some of it is rare, and which
# verbs fixed seeds draw changes with the code: it takes further turns until it has met all.
TURNS_MAX = 10
MET = """
    enqueue stored, enqueue conflict, lease, promote moved, redrive, purge, reopen, reopen not live,
    heartbeat, heartbeat not live, heartbeat told lost, reconcile, cancel requested, cancel cancelled, cancel many,
    complete applied, complete stale, fail applied, fail stale, reject applied, snooze applied,
    snooze already_applied, release applied, unknown_kind applied, tick moved, tick refused,
    lose_sessions moved, lose_sessions refused, expire moved, expire refused, fail_overdue moved,
    promote refused
"""


@pytest.mark.timeout(0 if SEEDS_VARIABLE in os.environ else 400)
# Other tests walk the same code; to follow it here takes a third of the time.
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "shard", [pytest.param(n, marks=pytest.mark.long if n else ()) for n in range(SHARDS)]
)
def test_the_store_does_what_the_model_does(real: Real, shard: int) -> None:
    seeds = max(1, int(os.environ.get(SEEDS_VARIABLE, SEEDS_SHORT)) // SHARDS)
    chosen = SEEDS_VARIABLE in os.environ

    met: Counter[str] = Counter()
    for turn in range(1 if chosen else TURNS_MAX):
        met.update(run(real, seeds, name=f"Machine{shard}_{turn}", derandomize=not chosen))
        if not _missing(met):
            break

    print(f"{seeds} seeds of up to {STEPS} verbs a turn: {dict(sorted(met.items()))}")
    assert chosen or not _missing(met)


def _missing(met: Counter[str]) -> list[str]:
    return [what for what in map(str.strip, MET.split(",")) if not met[what]]


class Broken(NamedTuple):
    """A statement, what guards it, and what stands there instead."""

    name: str
    guard: str
    instead: str = ""


BROKEN = [
    Broken("complete_jobs_if_fenced", " and l.fence = u.fence"),
    # Random verbs meet these two rarely.
    pytest.param(
        Broken("lose_sessions_if_leader", "term = %(term)s and holder = %(holder)s and "),
        marks=[pytest.mark.long, pytest.mark.timeout(600)],
        id="lose_sessions_if_leader, term",
    ),
    Broken(
        "lose_sessions_if_leader",
        "and ticked_at > clock_timestamp() - %(ticked_within_s)s * interval '1 s'",
    ),
    Broken("expire_leases_if_leader", "where s.lost\n        and", "where"),
    pytest.param(
        Broken("cancel_jobs_if_open", "not l.cancel_requested", "true"),
        marks=[pytest.mark.long, pytest.mark.timeout(600)],
        id="cancel_jobs_if_open",
    ),
    Broken("redrive_dead_letters_if_dead", "0, 0, deliveries, fence, 'r'", "0, 0, 0, fence, 'r'"),
]


def _named(broken: Broken) -> str:
    return broken.name


@pytest.fixture
def own_statements(tmp_path: Path) -> Iterator[Path]:
    """A copy of the SQL files, which the store reads until the test ends."""
    statements.use_directory(shutil.copytree(SQL, tmp_path / "sql"))
    yield tmp_path / "sql"
    statements.use_directory(SQL)


@pytest.mark.parametrize("broken", BROKEN, ids=_named)
def test_a_broken_statement_is_seen(real: Real, own_statements: Path, broken: Broken) -> None:
    path = own_statements / f"{broken.name}.sql"
    text = path.read_text()
    assert broken.guard in text, "the statement has changed: change this test with it"
    path.write_text(text.replace(broken.guard, broken.instead))

    with pytest.raises(AssertionError) as seen:
        run(real, 300, phases=(Phase.generate,))

    print(seen.value)
