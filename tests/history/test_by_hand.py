"""`python -m tests.history`: a history is checked by hand, against a real database with its journal."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import PIPE, STDOUT, run

import psycopg
import pytest

from tests.history.clerk import Clerk
from tests.history.events import Clock
from tests.history.final import install_journal, read_final
from tests.history.history import HistoryError, read_history
from tests.history.recorder import Recorder
from tests.history.saved import load_final, save_final
from tests.plugins.processes import ROOT
from tests.plugins.server import ServerFactory


def by_hand(history: Path, url: str) -> tuple[int, str]:
    """Exit code and output."""
    command = [sys.executable, "-m", "tests.history", str(history), "--database-url", url]
    ended = run(command, cwd=ROOT, stdout=PIPE, stderr=STDOUT, text=True, check=False)
    return ended.returncode, ended.stdout


async def test_a_history_is_checked_by_hand(
    migrated_database_url: str, start_server: ServerFactory, tmp_path: Path
) -> None:
    install_journal(migrated_database_url)
    server = await start_server(migrated_database_url)
    recorder = Recorder(tmp_path, "clerk")
    recorder.record(Clock, database=0.0)
    clerk = Clerk(recorder, server.channel, "by-hand")
    for payload in (b"one", b"two", b"three"):
        await clerk.enqueue(payload)
    for job in await clerk.lease("worker", jobs=3):
        assert await clerk.complete("worker", job) == "applied"
        assert await clerk.complete("worker", job) == "already_applied"
    code, output = by_hand(tmp_path, migrated_database_url)
    assert code == 0, output
    assert output.count("holds") == 9
    assert "3 jobs, 3 deliveries" in output
    with psycopg.connect(migrated_database_url, autocommit=True) as connection:
        connection.execute("delete from atlasqueue.finished where deliveries = 1")
    code, output = by_hand(tmp_path, migrated_database_url)
    assert code == 1
    assert "I1 by-hand/" in output
    assert "clerk.jsonl:" in output


async def test_a_saved_database_is_as_good(
    migrated_database_url: str, start_server: ServerFactory, tmp_path: Path
) -> None:
    install_journal(migrated_database_url)
    server = await start_server(migrated_database_url)
    clerk = Clerk(Recorder(tmp_path, "clerk"), server.channel, "by-hand")
    await clerk.enqueue(b"one")
    (job,) = await clerk.lease("worker")
    await clerk.complete("worker", job)
    final = read_final(migrated_database_url)
    save_final(final, tmp_path / "final.json")
    assert load_final(tmp_path / "final.json") == final
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="is no saved database"):
        load_final(tmp_path / "other.json")


async def test_without_a_journal_it_says_what_it_cannot_judge(
    migrated_database_url: str, tmp_path: Path
) -> None:
    Recorder(tmp_path, "clerk").close()
    code, output = by_hand(tmp_path, migrated_database_url)
    assert code == 3
    assert "I5 not judged: the database has no journal" in output


def test_a_torn_last_line_is_what_a_killed_process_leaves(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "worker")
    recorder.record(Clock, database=1.0)
    with recorder.path.open("a") as file:
        file.write('{"event": "clock", "at": 1.')
    assert len(read_history([tmp_path]).events) == 1


@pytest.mark.parametrize("line", ["nonsense", '{"event": "unheard"}', '{"event": "clock"}'])
def test_a_line_that_is_no_event_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f"{line}\n")
    with pytest.raises(HistoryError, match=r"a\.jsonl:1"):
        read_history([tmp_path])
