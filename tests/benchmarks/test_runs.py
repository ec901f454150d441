"""The harness on real processes, as small as it goes. How fast anything is, no test asks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from benchmarks.harness import document
from benchmarks.harness.postgres import open_postgres
from benchmarks.harness.runner import Runner, RunnerError
from benchmarks.own import languages
from benchmarks.own.context import QUICK
from benchmarks.own.rows import VALUES, SchemaChanged, columns
from benchmarks.own.run import Options, run
from benchmarks.peers import run as peers

TINY = replace(QUICK, jobs=300)


def test_a_work_phase_accounts_for_every_job(postgres_url: str, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    options = Options(frozenset({"work"}), 1, TINY, postgres_url, slots=16)
    done = run(options, lambda so_far: so_far.write(path))
    written = document.load(path)
    assert not done.skipped
    assert [sample["again"] for sample in written["samples"]] == [False, True]
    for sample in written["samples"]:
        metrics = sample["metrics"]
        assert metrics["jobs"] == 300
        assert metrics["wal_bytes_per_job"] > 0
        assert {"server_cpu_us_per_job", "worker_cpu_us_per_job"} <= set(metrics)
    assert "postgresql://" not in path.read_text(), "the URL holds a password"


@pytest.mark.long
def test_workers_in_both_languages_are_measured_side_by_side(postgres_url: str) -> None:
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    options = Options(frozenset({"languages"}), 1, TINY, postgres_url, slots=16)
    done = run(options, lambda _so_far: None)
    assert not done.skipped
    assert [s.variant for s in done.samples] == ["Python", "Go", "Python"]
    assert all(s.metrics["jobs"] == 300 for s in done.samples)
    assert all(s.metrics["worker_cpu_us_per_job"] >= 0 for s in done.samples)


def test_without_go_the_worker_in_go_is_refused_with_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RunnerError, match="Go is not installed"):
        languages.build()


@pytest.mark.long
def test_the_base_of_the_peers_runs_the_whole_cycle(postgres_url: str) -> None:
    # The phase is one that only the base takes part in here: peers need their own tool chains.
    options = peers.Options(frozenset({"atlasqueue", "work", "life"}), 1, 300, 3.0, postgres_url)
    done = peers.run(options, lambda _so_far: None)
    assert not done.skipped
    life = done.document()["summary"]["life"]["atlasqueue"]
    work = done.document()["summary"]["work"]["atlasqueue"]
    assert life["wal_bytes_per_job"]["median"] > work["wal_bytes_per_job"]["median"]


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrok: there are enqueue,"):
        run(Options(frozenset({"wrok"}), 1, TINY), lambda _: None)
    with pytest.raises(ValueError, match="celery: there are river,"):
        peers.run(peers.Options(frozenset({"celery"}), 1, 10, 1.0), lambda _: None)


def test_a_runner_that_dies_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Runner(["sh", "-c", "echo broken >&2; exit 3"], tmp_path / "log") as runner:
        with pytest.raises(RunnerError, match=r"code 3\nbroken"):
            runner.ready()


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/queue", "secret word"])
def test_a_database_that_cannot_be_had_is_named_by_its_flag(url: str) -> None:
    """How it showed: a traceback."""
    with pytest.raises(ValueError, match=r"^--database-url") as refused, open_postgres(url):
        pass
    assert "secret" not in str(refused.value)


def test_the_rows_that_are_copied_fit_the_schema(migrated_database_url: str) -> None:
    with psycopg.connect(migrated_database_url, autocommit=True) as connection:
        for table, values in VALUES.items():
            assert set(columns(connection, table)) == set(values)
        connection.execute("alter table atlasqueue.ready add column shade text not null")
        with pytest.raises(SchemaChanged, match=r"ready\.shade"):
            columns(connection, "ready")
