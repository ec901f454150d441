"""`make cluster` in its short form, and its load."""

from __future__ import annotations

import random
import socket
import subprocess
import sys

import pytest

from atlasqueue_server.embedded.ports import ports_to_keep
from deploy.cluster.processes import ROOT
from deploy.cluster.topology import ClusterError, Plan, ports_of
from deploy.load.__main__ import arguments as load_arguments
from deploy.load.__main__ import batch_size
from deploy.load.orders import Mix, order


def test_the_short_form_runs_jobs_and_stops_everything() -> None:
    command = [sys.executable, "-m", "deploy.cluster", "--base-port", "0", "--servers", "2"]
    command += ["--jobs", "40", "--no-prometheus"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "server-2 is ready" in done.stdout
    assert "all 40 jobs are done" in done.stdout
    assert "had to kill" not in done.stdout
    assert done.stdout.rstrip().endswith("stopped everything")


def test_a_taken_port_is_named() -> None:
    port = next(ports_to_keep(None))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(ClusterError, match=f"listens on .*{port}.*--base-port 0"):
            ports_of(Plan(base_port=port))


@pytest.mark.parametrize("base_port", [-1, 64_536, 70_000])
def test_ports_that_are_none_are_refused(base_port: int) -> None:
    """How it showed: a traceback, after PostgreSQL had been started."""
    with pytest.raises(ClusterError, match="--base-port 0 for any free ones, or 1 to 64535"):
        ports_of(Plan(base_port=base_port))


def test_a_directory_that_cannot_be_had_is_one_line() -> None:
    """How it showed: a traceback."""
    command = [sys.executable, "-m", "deploy.cluster", "--data", "/dev/null/x"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("error: the data directory /dev/null/x cannot be made")


def test_a_load_for_no_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How it showed: a traceback."""
    monkeypatch.setattr(sys, "argv", ["load", "--server", "nowhere"])
    with pytest.raises(SystemExit):
        load_arguments()
    assert "'nowhere' is no server address" in capsys.readouterr().err


def test_the_same_seed_makes_the_same_load() -> None:
    first, second = ([order(random.Random(7), Mix(0.3, 0.1)) for _ in range(50)] for _ in range(2))
    assert first == second


def test_the_mix_is_kept() -> None:
    chance = random.Random(1)
    outcomes = [order(chance, Mix(retry=0, die=1)).payload for _ in range(20)]
    assert all(b'"die"' in payload for payload in outcomes)
    with pytest.raises(ValueError, match="at most 1"):
        Mix(0.7, 0.7)


def test_the_rate_is_kept_and_a_pause_is_not_caught_up_for() -> None:
    assert batch_size(sent=0, elapsed_s=0.5, rate=100, count=None) == 50
    assert batch_size(sent=50, elapsed_s=0.5, rate=100, count=None) == 0
    assert batch_size(sent=0, elapsed_s=60, rate=100, count=None) == 100
    assert batch_size(sent=95, elapsed_s=2, rate=100, count=100) == 5
