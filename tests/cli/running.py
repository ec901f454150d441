"""Runs the command line: in this process where that is enough, as a process of its own where it is not."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from atlasqueue_cli.main import app


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Standard output, read as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without the settings of whoever runs the tests."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("ATLASQUEUE_")}
    return kept | {"COLUMNS": "200", "NO_COLOR": "1"} | dict(more or {})


def invoke(*arguments: str, given: bytes | None = None, server: str | None = None) -> Ended:
    """Runs a command in this process; `given` is its standard input."""
    environment: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith("ATLASQUEUE_")
    }
    environment |= {"COLUMNS": "200", "NO_COLOR": "1", "ATLASQUEUE_SERVER": server}
    result = CliRunner(env=environment).invoke(
        app, list(arguments), input=given, prog_name="atlasqueue"
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.stderr
    return Ended(result.exit_code, result.stdout, result.stderr)


@dataclass(frozen=True)
class Cli:
    """Commands against one server, from a test that lives in the server's event loop."""

    server: str

    async def __call__(self, *arguments: str, given: bytes | None = None) -> Ended:
        """Runs a command in a thread."""
        return await asyncio.to_thread(lambda: invoke(*arguments, given=given, server=self.server))


def start(
    *arguments: str, server: str, out: int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[bytes]:
    """Starts a command as a process, its three streams pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "atlasqueue_cli", *arguments],
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=subprocess.PIPE,
        env=clean_environment({"ATLASQUEUE_SERVER": server, **environment}),
    )
