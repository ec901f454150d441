"""The command line: its help, its exit codes, and what it hands on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from atlasqueue_server.cli import app
from atlasqueue_server.cli_commands import how_to_query, how_to_talk
from atlasqueue_server.config import ServerConfig
from atlasqueue_server.startup import BindError

URL = "postgresql://queue@db/queue"


@dataclass
class Report:
    """What migrations answer."""

    version: int = 3
    known: int = 4
    applied: list[str] = field(default_factory=lambda: ["0004_x.sql"])
    pending: list[str] = field(default_factory=list)


class World:
    """Stands in for the parts that need a database; `calls` tells what was done, in order."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.report = Report()
        self.failure: Exception | None = None

    def run(self, config: ServerConfig) -> int:
        """`atlasqueue_server.app.run`."""
        if self.failure:
            raise self.failure
        self.calls.append(config)
        return 0

    async def migrate(self, url: str, *_: Any) -> Report:
        """`atlasqueue_server.store.migrations.migrate`."""
        self.calls.append(f"migrate {url}")
        return self.report

    async def status(self, url: str) -> Report:
        """`atlasqueue_server.store.migrations.status`."""
        return self.report

    @contextmanager
    def postgres(self, directory: Any, **_: Any) -> Iterator[Any]:
        """`atlasqueue_server.embedded.EmbeddedPostgres`."""
        self.calls.append(f"start {directory}")
        server: Any = ModuleType("running")
        server.url, server.url_in_shell, server.psql = (
            URL,
            '"postgresql://…"',
            Path("/nowhere/psql"),
        )
        yield server
        self.calls.append("stop")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Put the stand-ins in place of the modules."""
    world = World()

    def module(name: str, **contents: Any) -> None:
        fake = ModuleType(name)
        fake.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, fake)

    module("atlasqueue_server.app", run=world.run)
    module("atlasqueue_server.store", __path__=[])
    module(
        "atlasqueue_server.store.migrations",
        migrate=world.migrate,
        status=world.status,
    )
    module("atlasqueue_server.store.fitness", UnfitDatabase=LookupError)
    module(
        "atlasqueue_server.embedded",
        EmbeddedPostgres=world.postgres,
        EmbeddedPostgresError=RuntimeError,
        default_data_directory=lambda: "/default",
    )
    monkeypatch.setattr("atlasqueue_server.logs.configure", lambda *_: None)
    for name in os.environ:
        if name.startswith("ATLASQUEUE_"):
            monkeypatch.delenv(name)
    return world


def invoke(*arguments: str) -> Result:
    """Run the command line."""
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, list(arguments))


def test_serve_hands_the_flags_on(world: World) -> None:
    result = invoke("serve", "--database-url", URL, "--http-port", "0", "--log-level", "debug")
    assert result.exit_code == 0, result.output
    [config] = world.calls
    assert (config.http_port, config.log_level, config.grpc_port) == (0, "debug", 7420)


def test_a_wrong_setting_is_one_line_and_exit_code_2(world: World) -> None:
    result = invoke("serve", "--database-url", URL, "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert result.output.startswith("atlasqueue-server: host: 0.0.0.0 can be reached by others")
    assert result.output.count("\n") == 1
    assert world.calls == []


def test_a_taken_port_is_one_line_and_exit_code_3(world: World) -> None:
    world.failure = BindError("gRPC", "127.0.0.1", 7420, "the port is taken")
    result = invoke("serve", "--database-url", URL)
    assert result.exit_code == 3
    assert "cannot listen on 127.0.0.1:7420 for gRPC" in result.output
    assert "--grpc-port" in result.output


def test_dev_starts_postgresql_migrates_serves_and_stops(world: World) -> None:
    result = invoke("dev", "--grpc-port", "1234")
    assert result.exit_code == 0, result.output
    start, migrate, config, stop = world.calls
    assert (start, migrate, stop) == ("start /default", f"migrate {URL}", "stop")
    assert config.database_url.get_secret_value() == URL
    assert "grpcurl -plaintext 127.0.0.1:1234 list" in result.output
    assert "http://127.0.0.1:7421/v1/queues/default/jobs" in result.output
    assert 'psql "$DATABASE_URL"' in result.output


def test_dev_uses_another_database_only_when_its_flag_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATLASQUEUE_DATABASE_URL", "postgresql://production")
    assert invoke("dev").exit_code == 0
    assert f"migrate {URL}" in world.calls
    world.calls.clear()
    assert invoke("dev", "--database-url", "postgresql://mine").exit_code == 0
    assert world.calls[0] == "migrate postgresql://mine"


def test_migrate_applies(world: World) -> None:
    result = invoke("migrate", "--database-url", URL)
    assert result.exit_code == 0
    assert world.calls == [f"migrate {URL}"]
    assert "applied 0004_x.sql" in result.output


@pytest.mark.parametrize("flag", ["--status", "--dry-run"])
def test_migrate_tells_what_is_pending_and_changes_nothing(world: World, flag: str) -> None:
    world.report.pending = ["0004_x.sql"]
    result = invoke("migrate", "--database-url", URL, flag)
    assert (result.exit_code, world.calls) == (1, [])
    assert "not applied: 0004_x.sql" in result.output
    assert "the database is at version 3, this server at 4" in result.output
    world.report.pending = []
    assert invoke("migrate", "--database-url", URL, flag).exit_code == 0


def test_version() -> None:
    assert invoke("version").output.startswith("atlasqueue-server ")


def test_help_has_a_flag_for_every_setting_and_examples() -> None:
    text = invoke("serve", "--help").output
    for name in ServerConfig.model_fields:
        assert f"--{name.replace('_', '-')}" in text
    for command in ("serve", "dev", "migrate"):
        assert "Examples:" in invoke(command, "--help").output


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from atlasqueue_server.cli import app\n"
        "heavy = {'grpc', 'pydantic', 'structlog', 'psycopg', 'starlette', 'google.protobuf'}\n"
        "try: app(['--help'])\n"
        "finally: sys.exit(3 if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "atlasqueue-server dev" in done.stdout


def test_what_dev_prints_when_the_ports_are_not_known_yet() -> None:
    free = ServerConfig(database_url=SecretStr(URL), grpc_port=0)
    assert "The log names the ports" in how_to_talk(free)


def test_what_dev_prints_can_be_typed_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """How it showed: the commands were named without the directory that `make dev` has them in, and curl before
    7.82 does not know --json."""
    beside = Path(sys.executable).parent
    config = ServerConfig(database_url=SecretStr(URL))
    monkeypatch.chdir(beside.parents[1])
    monkeypatch.setenv("PATH", "/nowhere")
    told = how_to_talk(config)
    assert f"\n  {beside.relative_to(Path.cwd())}/atlasqueue top --server 127.0.0.1:7420\n" in told
    assert "--json" not in told
    # docs/sql.md begins with a DATABASE_URL, and nothing told how to have that of `make dev`.
    told = how_to_query('"postgresql://…"', beside / "psql")
    assert '\n  export DATABASE_URL="postgresql://…"\n' in told
    assert f'\n  {beside.relative_to(Path.cwd())}/psql "$DATABASE_URL" ' in told
    monkeypatch.setenv("PATH", str(beside))
    assert "\n  atlasqueue-worker run MODULE:APP --server 127.0.0.1:7420\n" in how_to_talk(config)


@pytest.mark.parametrize("command", ["migrate", "serve"])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://nobody@127.0.0.1:1/x", "cannot connect to the database"),
        ("postgresql://me:s3cret@127.0.0.1:1/a b?bogus=1", "address cannot be read"),
    ],
)
def test_a_database_that_cannot_be_had_is_exit_code_3(command: str, url: str, says: str) -> None:
    """How it showed: migrate and a mistyped address ended in a traceback."""
    process = subprocess.run(
        [sys.executable, "-m", "atlasqueue_server", command, "--database-url", url],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 3
    assert process.stderr.startswith("atlasqueue-server: ")
    assert says in process.stderr
    assert "Traceback" not in process.stderr
    assert "s3cret" not in process.stderr


def test_dev_says_when_its_directory_cannot_be_made() -> None:
    """How it showed: a traceback."""
    command = ["dev", "--data-directory", "/dev/null/x"]
    process = subprocess.run(
        [sys.executable, "-m", "atlasqueue_server", *command], capture_output=True, text=True
    )
    assert process.returncode == 3
    assert "/dev/null/x cannot be made" in process.stderr
    assert "Traceback" not in process.stderr
