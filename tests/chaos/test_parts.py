"""The parts of the chaos runs that can be told without running one."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from atlasqueue_worker import App, JobContext, Worker
from atlasqueue_worker.executor import Executor
from tests.broken.overlay import variants
from tests.chaos.hooks import record_worker
from tests.chaos.names import DIRECTORY_VARIABLE, WHO_VARIABLE
from tests.chaos.progress import Progress, Stuck
from tests.chaos.report import save, show
from tests.chaos.runner import Result, time_to_full_rate
from tests.chaos.scenarios import scenario, scenarios
from tests.history.events import Delivered, Enqueued, Reported, value_hash
from tests.history.history import History, read_history
from tests.history.recorder import Recorder
from tests.waiting import eventually_so
from tests.worker.scripted import Scripted, brings, serving


def reports(*spans: tuple[float, float, int]) -> History:
    """Applied reports: (from, to, how many a second)."""
    events = [
        Reported(
            at=start + step / rate,
            who="w",
            queue="q",
            job_id=f"{start}-{step}",
            fence=1,
            outcome="complete",
            answer="applied",
        )
        for start, end, rate in spans
        for step in range(int((end - start) * rate))
    ]
    return History(events)


def test_time_to_full_rate_counts_from_the_end_of_the_fault() -> None:
    history = reports((0, 10, 100), (12, 15, 20), (15, 20, 100))
    assert time_to_full_rate(history, [12.0]) == pytest.approx(3.0, abs=0.5)


def test_time_to_full_rate_is_unknown_when_the_load_was_over_before() -> None:
    assert time_to_full_rate(reports((0, 10, 100), (12, 15, 20)), [12.0]) is None
    assert time_to_full_rate(reports(), [1.0]) is None
    assert time_to_full_rate(reports((0, 10, 100)), []) is None


def test_every_scenario_says_what_it_shows_and_what_it_catches_exists() -> None:
    known = scenarios()
    assert len(known) >= 15
    for one in known.values():
        assert one.play.__doc__, one.name
        assert set(one.catches) <= set(variants()), one.name
    assert {"fence", "grace", "term"} <= {b for one in known.values() for b in one.catches}


def test_a_name_is_taken_once() -> None:
    taken = next(iter(scenarios()))
    with pytest.raises(ValueError, match="two scenarios are called"):
        scenario(taken, "again")(lambda _: None)  # type: ignore[arg-type,return-value]


async def test_progress_reads_only_what_is_new(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "w")
    progress = Progress(tmp_path)
    job = {"queue": "q", "job_id": "a"}
    recorder.record(Enqueued, **job, body="b")
    recorder.record(Delivered, **job, fence=1)
    progress.update()
    recorder.record(Delivered, **job, fence=2)
    recorder.record(Reported, **job, fence=2, outcome="complete", answer="applied")
    recorder.record(Reported, **job, fence=1, outcome="complete", answer="stale")
    await progress.completed(1)
    assert str(progress) == "1 acknowledged, 2 delivered, 1 completed, 1 refused"
    assert progress.redelivered({"a", "b"}) == {"a"}
    with pytest.raises(Stuck, match="never: not within 0 s"):
        await progress.until(lambda: False, "never", wait_s=0)


def test_the_table_and_its_json(tmp_path: Path) -> None:
    counts = {"jobs": 3, "deliveries": 4, "reports": 4, "refused": 1, "repeated": 0}
    results = [
        Result("one", 1, "OK", faults=["kill -9 x"], counts=counts, full_rate_s=1.23),
        Result("two", 7, "FAILED", "I2 fell", counts=counts, fallen=["I2"], kept="build/x"),
        Result("three", 1, "SKIPPED", "no faketime"),
    ]
    output = io.StringIO()
    show(results, Console(file=output, width=160))
    text = output.getvalue()
    assert "1.2 s" in text
    assert "I2 fell" in text
    assert "make chaos SCENARIO=two SEED=7" in text
    assert "no faketime" in text
    # It said `python`, which has none of what the checker needs outside of an activated environment.
    by_hand = text.partition("check by hand: ")[2].splitlines()[0]
    assert by_hand == (
        f"{sys.executable} -m tests.history build/x/history --final build/x/final.json"
    )
    save(results, tmp_path / "table.json")
    assert [row["verdict"] for row in json.loads((tmp_path / "table.json").read_text())] == [
        "OK",
        "FAILED",
        "SKIPPED",
    ]


async def test_what_a_worker_learns_is_written_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """How it showed: the hooks took the worker's answers in their older form, and only whole scenarios fell."""
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    monkeypatch.setenv(WHO_VARIABLE, "w")
    monkeypatch.setattr(Recorder, "witness", lambda _: None)
    # What is hooked here is put back after the test.
    monkeypatch.setattr(Executor, "start", Executor.start)
    monkeypatch.setattr(Worker, "_answered", Worker._answered)
    record_worker()
    app, server = App(), Scripted()
    server.streams.append(brings(1, 2))

    @app.job("do", queue="q")
    async def _(job: JobContext) -> bytes | None:
        return b"42" if job.fence == 1 else None

    async with serving(server) as addresses:
        worker = Worker(app, addresses)
        run = asyncio.create_task(worker.run())
        await eventually_so(lambda: worker.completed == 2)
        worker.stop()
        await run
    history = read_history([tmp_path])
    assert [event.fence for event in history.of(Delivered)] == [1, 2]
    reported = [(e.fence, e.outcome, e.answer, e.result) for e in history.of(Reported)]
    assert sorted(reported) == [
        (1, "complete", "applied", value_hash(b"42")),
        (2, "complete", "applied", value_hash(b"")),
    ]
