"""Runs one scenario with one seed: a fresh world, the faults, the check; keeps what shows why it failed."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from atlasqueue_server.embedded import EmbeddedPostgres
from tests.broken import overlay
from tests.chaos.arena import Arena
from tests.chaos.scenarios import Scenario
from tests.chaos.settings import POSTGRES
from tests.history.check import check
from tests.history.events import Reported
from tests.history.final import read_final
from tests.history.history import History, read_history
from tests.history.saved import save_final
from tests.history.verdict import PROMISE, Bounds, Verdict
from tests.plugins import standby as standbys

BUCKET_S = 0.5
FULL_RATE = 0.8


@dataclass
class Result:
    """A row of the table. `verdict` is OK, FAILED or SKIPPED; `why` says more.

    full_rate_s: how long after the end of a fault the work ran at 80 % of the pace before the first one, at
        worst; None when the load was over before.
    """

    scenario: str
    seed: int
    verdict: str
    why: str = ""
    faults: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    fallen: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    full_rate_s: float | None = None
    seconds: float = 0.0
    kept: str = ""

    def to_json(self) -> dict[str, object]:
        """For tools."""
        return asdict(self)


@contextmanager
def world(disk_mb: int) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of its own, whose data is deleted at the end; with `disk_mb` on a disk of its own."""
    # Directly in the temporary directory: it may have to run as the user `nobody`.
    directory = Path(tempfile.mkdtemp(prefix="atlasqueue-chaos-"))
    if disk_mb:
        size = f"size={disk_mb}m,mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", directory], check=True)
    try:
        directory.chmod(0o755)
        data = directory / "data"
        with EmbeddedPostgres(data, settings=POSTGRES, temporary=True) as postgres:
            yield postgres
    finally:
        if disk_mb:
            subprocess.run(["umount", "--lazy", directory], check=True)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def standby_of(postgres: EmbeddedPostgres, kind: str) -> Iterator[EmbeddedPostgres | None]:
    """Its standby, streaming; none for ""."""
    if not kind:
        yield None
        return
    directory = Path(tempfile.mkdtemp(prefix="atlasqueue-chaos-"))
    directory.chmod(0o755)
    try:
        with standbys.make_standby(postgres, directory / "data", POSTGRES) as standby:
            standbys.set_synchronous(postgres, kind == "synchronous")
            yield standby
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def run(
    scenario: Scenario,
    seed: int,
    directory: Path,
    *,
    short: bool = False,
    broken: str | None = None,
    expiry_slack_s: float = 2.0,
) -> Result:
    """Runs it; what happened goes to `directory`, which is deleted again when all was well."""
    if reason := scenario.needs():
        return Result(scenario.name, seed, "SKIPPED", reason)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    started = time.monotonic()
    settings = scenario.settings
    with (
        world(settings.disk_mb) as postgres,
        standby_of(postgres, settings.standby) as standby,
        _statements(broken, directory / "sql"),
    ):
        arena = Arena(
            directory, postgres, settings, seed=seed, short=short, broken=broken, standby=standby
        )
        failure = await _play(scenario, arena)
        result = await asyncio.to_thread(
            _judge,
            arena,
            scenario,
            seed,
            failure,
            Bounds(expiry_slack_s=expiry_slack_s + scenario.settings.expiry_extra_s),
        )
        if result.verdict != "OK":
            shutil.copy(arena.postgres.log_file, directory / "postgres.log")
    result.seconds = time.monotonic() - started
    if result.verdict == "OK":
        shutil.rmtree(directory)
    else:
        result.kept = str(directory)
    return result


@contextmanager
def _statements(variant: str | None, directory: Path) -> Iterator[None]:
    """What scenarios send themselves is broken too."""
    with overlay.broken(variant, directory) if variant else nullcontext():
        yield


async def _play(scenario: Scenario, arena: Arena) -> str:
    """What went wrong while it ran, or ""."""
    failure = ""
    try:
        await arena.open()
        await scenario.play(arena)
    except Exception as error:
        failure = "; ".join(_reasons(error))
    finally:
        deaths = arena.deaths()
        await arena.close()
    if deaths:
        failure = f"{failure}; " * bool(failure) + f"ended by themselves: {', '.join(deaths)}"
    return failure


def _reasons(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [reason for inner in error.exceptions for reason in _reasons(inner)]
    return [f"{type(error).__name__}: {error}"]


def _judge(arena: Arena, scenario: Scenario, seed: int, failure: str, bounds: Bounds) -> Result:
    if not arena.postgres.is_running:
        arena.postgres.restart("immediate")
    history = read_history([arena.history])
    final = read_final(arena.url)
    save_final(final, arena.directory / "final.json")
    verdict = check(history, final, bounds)
    _keep_violations(arena.directory, verdict)
    fallen = verdict.fallen
    why = [f"{name} fell: {PROMISE[name]}" for name in fallen] + [failure] * bool(failure)
    why += [f"{name} not judged: {reason}" for name, reason in verdict.unjudged.items()]
    return Result(
        scenario.name,
        seed,
        "FAILED" if why else "OK",
        "; ".join(why),
        arena.faults,
        verdict.counts,
        fallen,
        arena.notes,
        time_to_full_rate(history, arena.fault_ends),
    )


def _keep_violations(directory: Path, verdict: Verdict) -> None:
    lines = [str(violation) for violation in verdict.violations]
    (directory / "violations.txt").write_text("".join(f"{line}\n" for line in lines))
    summary = {"counts": verdict.counts, "fallen": verdict.fallen, "unjudged": verdict.unjudged}
    (directory / "verdict.json").write_text(json.dumps(summary, indent=2))


def time_to_full_rate(history: History, fault_ends: list[float]) -> float | None:
    """Seconds from the end of a fault to the pace of before the first fault, at worst.

    The pace is that of accepted reports in windows of half a second; before the first fault their median.
    """
    times = [r.at for r in history.of(Reported) if r.answer == "applied"]
    if not times or not fault_ends:
        return None
    first, last = times[0], times[-1]
    rates: dict[int, int] = {}
    for time_ in times:
        bucket = int((time_ - first) / BUCKET_S)
        rates[bucket] = rates.get(bucket, 0) + 1
    before = [rates.get(b, 0) for b in range(int((fault_ends[0] - first) / BUCKET_S))]
    busy = [rate for rate in before if rate]
    if not busy:
        return None
    wanted = FULL_RATE * statistics.median(busy)
    waits = []
    for end, limit in pairwise([*fault_ends, last]):
        bucket = max(0, int((end - first) / BUCKET_S))
        final = int((limit - first) / BUCKET_S)
        reached = next((b for b in range(bucket, final) if rates.get(b, 0) >= wanted), None)
        if reached is not None:
            waits.append(max(0.0, first + reached * BUCKET_S - end))
    return max(waits) if waits else None
