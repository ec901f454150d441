"""Every lab, pressed by nobody: its naive run is caught, its real run is clean."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import time

import pytest
from rich.console import Console

from labs import labs
from labs.lab import Lab
from labs.runner import run
from labs.thundering_herd import spread
from labs.voice import Voice
from tests.docs.pages import ROOT

# The others take the same way through the runner and longer; `make test-long` runs them.
SHORT = ("two_workers",)
# What the checker must name; the others are caught by counting.
INVARIANTS = {"two_workers": "I2 fell", "paused_leader": "I8 fell"}
EACH = [
    pytest.param(lab, marks=() if lab.name in SHORT else pytest.mark.long, id=lab.name)
    for lab in labs().values()
]


def told() -> tuple[Voice, io.StringIO]:
    """A reader who presses every key, and what they were told."""
    told = io.StringIO()
    return Voice(auto=True, console=Console(file=told, width=160)), told


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lab", EACH)
async def test_the_naive_run_is_caught(lab: Lab) -> None:
    voice, story = told()
    verdict = await run(lab, voice, naive=True, short=True)
    assert verdict.caught, story.getvalue()
    assert INVARIANTS.get(lab.name, "") in verdict.says


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lab", EACH)
async def test_the_real_run_is_clean(lab: Lab) -> None:
    voice, story = told()
    verdict = await run(lab, voice, naive=False, short=True)
    assert not verdict.caught, f"{verdict}\n{story.getvalue()}"


def test_labs_need_no_pytest() -> None:
    code = "import sys, labs.__main__ as m; m.labs(); sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_without_a_name_they_are_listed() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "labs"], cwd=ROOT, capture_output=True, text=True
    )
    assert listed.returncode == 0
    assert [name for name in labs() if name not in listed.stdout] == []


def test_an_unknown_name_is_refused() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "labs", "two_worker"], cwd=ROOT, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "no lab two_worker: there are two_workers, " in refused.stderr


def test_spread_counts_shares_of_the_whole_backoff() -> None:
    assert spread([0, 499, 500, 4000], 4000) == [0.5, 0.25, 0, 0, 0, 0, 0, 0.25]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_reader_at_a_terminal_presses_enter() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "labs", "lost_acknowledgement", "--short"])
    shown = ""
    end = time.monotonic() + 250
    while time.monotonic() < end:
        try:
            if select.select([terminal], [], [], 0.5)[0]:
                shown += os.read(terminal, 65536).decode(errors="replace")
            # Keys that nobody has asked for are dropped, so it does no harm to press too often.
            os.write(terminal, b"\n")
        except OSError:
            break
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    assert "CAUGHT" in shown
    assert "CLEAN" in shown
