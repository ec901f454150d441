"""The command line against a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.cli.running import Cli
from tests.plugins.server import RunningServer


@pytest.fixture
def silent_server() -> Iterator[None]:
    """A server in this process prints its log, and to where a command that runs meanwhile prints."""
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.configure(**before)


@pytest.fixture
def cli(silent_server: None, server: RunningServer) -> Cli:
    """Runs commands against a server on a fresh database."""
    return Cli(server.grpc_address)
