"""The end of a server."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from atlasqueue_server import app
from tests.plugins.server import config_for


async def test_both_ports_share_one_grace(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it showed: the HTTP port began a grace of its own, so that a stop took two."""
    application = app.Application(config_for(migrated_database_url, drain_grace_seconds=30))
    await application.start()
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(app, "time", SimpleNamespace(monotonic=lambda: clock.now))
    stop_grpc, stop_http = application._grpc.stop, application._http.stop
    graces: list[float] = []

    async def slow_grpc(grace_s: float) -> None:
        graces.append(grace_s)
        clock.now += 20
        await stop_grpc(grace_s)

    async def http(grace_s: float) -> None:
        graces.append(grace_s)
        await stop_http(grace_s)

    monkeypatch.setattr(application._grpc, "stop", slow_grpc)
    monkeypatch.setattr(application._http, "stop", http)
    await application.drain()
    await application.stop()
    assert graces == [30, 10]
