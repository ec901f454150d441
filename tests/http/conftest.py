"""The HTTP application over fake handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from atlasqueue_server.http.app import build_app
from atlasqueue_server.metrics import Metrics
from tests.rpc.fakes import Handlers, bound


@dataclass
class World:
    """What a test can set and look at."""

    handlers: Handlers = field(default_factory=Handlers)
    metrics: Metrics = field(default_factory=lambda: Metrics("1.2.3"))
    checks: dict[str, str] = field(default_factory=lambda: {"database": "ok"})

    async def readiness(self) -> dict[str, str]:
        """What /readyz asks."""
        return self.checks


@pytest.fixture
def world() -> World:
    """Handlers, metrics and checks."""
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application."""
    app = build_app(bound(world.handlers, metrics=world.metrics), world.metrics, world.readiness)
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://atlasqueue.test") as client:
        yield client
