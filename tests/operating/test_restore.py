"""A restore to an older moment: fences would be issued again, unless the sequences are moved on as the page says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from atlasqueue_server.embedded import find_binaries
from atlasqueue_server.model.jobs import OutcomeKind
from atlasqueue_server.model.states import State
from tests.docs.pages import ROOT
from tests.factories import Factory, open_database

PAGE = ROOT / "docs" / "operating" / "backup.md"


def _tool(name: str, *arguments: str) -> None:
    program = find_binaries().directory / name
    done = subprocess.run([program, *arguments], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr


def _move_sequences_on(url: str) -> None:
    (statement,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.mark.parametrize("as_the_page_says", [False, True])
async def test_a_report_of_the_lost_future(
    migrated_database_url: str, database_url: str, tmp_path: Path, as_the_page_says: bool
) -> None:
    """Without the page's SQL a worker of the lost future completes another worker's lease: it must not."""
    dump = str(tmp_path / "queue.dump")
    async with open_database(migrated_database_url) as database:
        factory = Factory(database, "q")
        job = await factory.enqueue()
        _tool("pg_dump", "-Fc", "-n", "atlasqueue", "-f", dump, migrated_database_url)
        before = await factory.session()
        (lost,) = await factory.lease(before.session_id)
    _tool("pg_restore", "--no-owner", "-d", database_url, dump)
    if as_the_page_says:
        _move_sequences_on(database_url)
    async with open_database(database_url) as database:
        factory = Factory(database, "q")
        after = await factory.session()
        (lease,) = await factory.lease(after.session_id)
        assert lease.job_id == lost.job_id == job.job_id
        answer = await factory.report(job.job_id, lost.fence, OutcomeKind.COMPLETE)
        if as_the_page_says:
            assert lease.fence > lost.fence
            assert after.session_id > before.session_id
            assert answer is None
        else:
            assert (lease.fence, after.session_id) == (lost.fence, before.session_id)
            assert answer is State.SUCCEEDED
