"""/metrics, /healthz, /readyz."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from atlasqueue_server.http import app as app_module
from tests.http.conftest import World


async def test_metrics_count_rest_calls(client: httpx.AsyncClient) -> None:
    await client.get("/v1/queues")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    labels = 'code="OK",rpc="QueueService/ListQueues",transport="http"'
    assert f"atlasqueue_rpc_calls_total{{{labels}}} 1.0" in answer.text
    assert 'version="1.2.3"} 1.0' in answer.text


async def test_a_process_that_lives_is_healthy_even_when_not_ready(
    client: httpx.AsyncClient, world: World
) -> None:
    world.checks["database"] = "does not answer"
    assert (await client.get("/healthz")).status_code == 200
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "checks": {"database": "does not answer"}}


async def test_ready_when_all_checks_are_ok(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


async def test_a_wrong_method_is_refused_like_that_of_an_rpc(client: httpx.AsyncClient) -> None:
    """How it showed: the refusal was plain text."""
    answer = await client.post("/healthz")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.json()["details"][0]["reason"] == "METHOD_NOT_ALLOWED"


async def test_checks_are_bounded_and_keep_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "READINESS_TIMEOUT_S", 0.01)

    async def hang() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def fail() -> dict[str, str]:
        raise ConnectionError("postgresql://user:secret@host")

    assert "does not answer within" in (await app_module._checks(hang))["database"]
    assert await app_module._checks(fail) == {"database": "does not answer (ConnectionError)"}


@pytest.mark.parametrize(
    ("code", "content", "headers"),
    [
        ("INVALID_ARGUMENT", b"not JSON", {"content-type": "application/json"}),
        ("INVALID_ARGUMENT", b"{}", {"content-type": "text/plain"}),
        ("PERMISSION_DENIED", b"{}", {"origin": "https://elsewhere.test"}),
    ],
)
async def test_what_no_request_can_be_made_of_is_counted_as_over_grpc(
    client: httpx.AsyncClient, code: str, content: bytes, headers: dict[str, str]
) -> None:
    """How it showed: a client that sent only broken JSON left no trace in /metrics."""
    answer = await client.post("/v1/queues/mail:pause", content=content, headers=headers)
    assert answer.status_code >= 400
    labels = f'code="{code}",rpc="QueueService/PauseQueue",transport="http"'
    text = (await client.get("/metrics")).text
    assert f"atlasqueue_rpc_calls_total{{{labels}}} 1.0" in text
