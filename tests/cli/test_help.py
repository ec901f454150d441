"""--help teaches at every command and answers at once; wrong usage is told in a line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from atlasqueue_cli.main import app
from tests.cli.running import clean_environment, invoke


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from _commands(inner, (*path, name))
        else:
            yield (*path, name)


# The name of a run, and of one that began after the year 9999.
RUN = "0198c5a2-7d1e-7000-8000-000000000001"
RUN_AFTER_9999 = "ffffffff-ffff-7000-8000-000000000001"
COMMANDS = sorted(_commands(get_command(app)))


def test_all_that_was_asked_for_is_there() -> None:
    names = {" ".join(command) for command in COMMANDS}
    assert names == {
        *("enqueue", "get", "list", "wait", "tail", "cancel"),
        *("pause", "resume", "queues list", "queues show", "queues policy"),
        *("dead-letters list", "dead-letters show", "dead-letters redrive", "dead-letters purge"),
        *("workers", "cluster", "top"),
    }


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples_and_the_common_options(
    command: tuple[str, ...],
) -> None:
    ended = invoke(*command, "--help")
    assert ended.code == 0
    usage, rest = ended.out.split("\n", 1)
    assert usage.startswith(f"Usage: atlasqueue {' '.join(command)}")
    examples = rest.partition("Examples:\n")[2]
    assert f"atlasqueue {' '.join(command)}" in examples
    for option in ("--output", "--server", "--tls-ca", "ATLASQUEUE_SERVER", "--retry-for"):
        assert option in rest
    assert "\u200b" not in rest
    assert "`" not in rest, "plain help shows no markup"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_is(command: tuple[str, ...]) -> None:
    inner: Any = get_command(app)
    for name in command:
        inner = inner.commands[name]
    assert [p.name for p in inner.params if not getattr(p, "help", "")] == []


def test_the_first_help_shows_where_to_begin() -> None:
    out = invoke("--help").out
    assert "atlasqueue enqueue media resize cat.png" in out
    assert "Exit codes: 0 done" in out
    for title in ("Jobs:", "Queues:", "Workers and servers:"):
        assert f"\n{title}\n" in out
    assert "..." not in out.partition("Jobs:")[2].partition("Options:")[0], (
        "a first sentence is cut off"
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from atlasqueue_cli.main import app\n"
        "heavy = {'grpc', 'google.protobuf', 'atlasqueue', 'rich.table', 'rich.progress', 'asyncio'}\n"
        "try: app(['enqueue', '--help'])\n"
        "finally: sys.exit(f'loaded {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr


def test_completion_knows_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "atlasqueue_cli"],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(
            {
                "_ATLASQUEUE_COMPLETE": "complete_bash",
                "COMP_WORDS": "atlasqueue dead-letters re",
                "COMP_CWORD": "2",
            }
        ),
    )
    assert done.stdout.split() == ["redrive"], done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lst"], "No such command 'lst'. Did you mean 'list'"),
        (["get", "x", "--ouput", "json"], "No such option: --ouput"),
        # It said "Value error, 'yaml' is not one of …": the words of a library, which tell a person nothing.
        (["list", "q", "-o", "yaml"], "'--output' / '-o': 'yaml' is not one of 'table', 'json'"),
        (["list", "q", "--state", "done"], "'--state': 'done' is not one of 'scheduled', "),
        (["list", "q", "--limit", "0"], "'--limit': must be greater than or equal to 1"),
        (["list", "q", "--limit", "x"], "'--limit': must be a valid integer\n"),
        (["list", "q", "--created-after", "soon"], "--created-after: 'soon' is no time"),
        (["wait", "x", "--timeout", "10"], "--timeout: '10' is no duration"),
        (["enqueue", "q"], "a job needs a kind"),
        (["enqueue", "q", "k", "--header", "x"], "--header: 'x' must be NAME=VALUE"),
        (["enqueue", "q", "k", "@/nowhere"], "/nowhere cannot be read: No such file"),
        (["enqueue", "q", "k", "--in", "1h", "--run-at", "1h"], "exclude each other"),
        (["enqueue", "q", "k", "--resume", "x"], "--resume is for JSON lines"),
        (["enqueue", "q", "k", "--queue", "x"], "--queue is for JSON lines"),
        (["enqueue", "@/nowhere"], "/nowhere cannot be read"),
        (["enqueue", "@/"], "/ cannot be read: Is a directory"),
        (["enqueue", "-", "resize"], "'resize' after - or @FILE"),
        (["enqueue", "-", "--job-id", "x"], "--job-id names one job"),
        (["enqueue", "-", "--wait"], "--wait waits for one job"),
        (["enqueue", "-", "--resume", "x:1"], "--resume: 'x:1' is no run"),
        (["enqueue", "-", "--resume", f"{RUN}:0"], "is no run"),
        (["enqueue", "-", "--resume", RUN_AFTER_9999], "is no run"),
        (["enqueue", "q", "k", "--priority", "99999999999"], "--priority must be 1 to 5"),
        (["enqueue", "q", "k", "@/dev/zero"], "/dev/zero is over 4 MiB; a payload has at most 1"),
        (["get", "\udcff"], "'\\udcff' is not UTF-8"),
        (["enqueue", "q", "k", "--header", "\udcff=1"], "'\\udcff' is not UTF-8"),
        (["queues", "policy", "q", "--max-backoff", "1"], "--max-backoff: '1' is no duration"),
        (["queues", "policy", "q", "--max-attempts", "99999999999"], "out of range"),
        (
            ["queues", "policy", "q", "--max-attempts", "3", "--reset", "max-attempts"],
            "--max-attempts is set and reset at once",
        ),
        (["dead-letters", "purge", "q", "id", "--kind", "x"], "not both"),
        # How it showed: `purge q $IDS --yes` with no ids deleted all of them.
        (["dead-letters", "purge", "q", "--yes"], "every dead letter of q: give ids"),
        (["dead-letters", "purge", "q", "--all", "--limit", "1", "--yes"], "not both"),
        (["cancel", "--kind", "x", "--yes"], "give ids, or --queue"),
        (["cancel", "id", "--kind", "x"], "not both"),
        (["cancel", "id", "--queue", "q", "--yes"], "not both"),
        (["cancel", "-", "--queue", "q"], "standard input has no ids"),
        (
            ["cancel", "--queue", "q", "--state", "dead"],
            "'dead' is not one of 'scheduled', 'ready'",
        ),
        (["cancel", "--queue", "q", "--created-before", "soon"], "--created-before: 'soon' is no"),
        (["wait", "-"], "standard input has no ids"),
        (["workers", "--retry-for", "nan"], "must be greater than or equal to 0"),
        (["top", "--interval", "inf"], "must be less than or equal to 86400"),
        (["workers", "--tls-ca", "/dev/null"], "/dev/null holds no PEM"),
        (["workers", "--server", "http://127.0.0.1:7421"], "is no server address"),
        (["workers", "--server", "nowhere"], "'nowhere' is no server address"),
        (["workers", "--tls-cert", "/x"], "--tls-cert and --tls-key must be given together"),
        (["workers", "--tls-ca", "/nowhere"], "/nowhere cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(arguments: list[str], says: str) -> None:
    ended = invoke(*arguments, given=b"", server="127.0.0.1:1")
    assert ended.code == 2, ended
    assert says in ended.err
    assert ended.out == ""


def test_no_server_is_exit_code_4_and_says_what_to_do() -> None:
    ended = invoke("queues", "list", "--retry-for", "0", server="127.0.0.1:1")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith("atlasqueue: no server answers at 127.0.0.1:1: ")
    assert "--server HOST:PORT or ATLASQUEUE_SERVER names another" in ended.err


def test_a_bug_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlasqueue_cli.cluster.workers", lambda _: 1 / 0)
    ended = invoke("workers")
    assert ended.code == 70
    assert ended.err.startswith("atlasqueue: this should not happen: ZeroDivisionError")
    assert "ATLASQUEUE_DEBUG=1" in ended.err


def test_version() -> None:
    assert invoke("--version").out.startswith("atlasqueue 0.")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is Linux's")
def test_help_on_a_full_disk_is_told() -> None:
    """How it showed: `atlasqueue --help > FILE` on a full disk ended in a traceback."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "atlasqueue_cli", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=clean_environment(),
        )
    assert b"Traceback" not in done.stderr
    assert b"cannot be written: No space left on device" in done.stderr
