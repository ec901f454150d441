"""The lines of docs/cli.md work, in their order, and print what the page says."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from atlasqueue_cli.errors import ExitCode
from tests.docs.pages import ROOT, run, steps_of
from tests.plugins.server import RunningServer

PAGE = ROOT / "docs" / "cli.md"


async def _run(page: Path, server: RunningServer, directory: Path) -> None:
    await run(steps_of(page, {"127.0.0.1:7420": server.grpc_address}), directory)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for a bash that finds the installed commands where `make venv` puts them, and no settings.

    How it showed: with them on the PATH the page passed, which went to another directory and lost `.venv/bin`.
    """
    for name in os.environ:
        if name.startswith("ATLASQUEUE_"):
            monkeypatch.delenv(name)
    bin_ = Path(sys.executable).parent
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(bin_)
    others = [entry for entry in os.environ["PATH"].split(os.pathsep) if entry != str(bin_)]
    monkeypatch.setenv("PATH", os.pathsep.join(others))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


async def test_the_first_lines_of_the_page_work(server: RunningServer, shell: Path) -> None:
    """The short form: a job from enqueue to tail, and the end of the worker."""
    beginning, heading, rest = PAGE.read_text().partition("## JSON")
    assert heading
    page = shell / "page.md"
    page.write_text(f"{beginning}{rest[rest.index('```sh', rest.index('`top` looks again')) :]}")

    await _run(page, server, shell)


@pytest.mark.long
async def test_every_line_of_the_page_works(server: RunningServer, shell: Path) -> None:
    await _run(PAGE, server, shell)


def test_the_page_names_every_exit_code() -> None:
    table = PAGE.read_text().partition("## Exit codes")[2]
    told = {
        int(n) for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.M) for n in cell.split(",")
    }
    assert told == {int(code) for code in ExitCode}
