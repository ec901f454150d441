"""The HTTP port over real sockets: streams, disconnects, a taken port, TLS, a graceful stop."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from atlasqueue.v1 import job_pb2
from atlasqueue.v1 import job_service_pb2 as jobs_pb
from atlasqueue_server import app as server_app
from atlasqueue_server.http import server as http_server
from atlasqueue_server.http.app import build_app
from atlasqueue_server.http.server import HttpServer
from atlasqueue_server.model import errors
from atlasqueue_server.startup import BindError, TlsFiles
from tests.http.conftest import World
from tests.plugins.server import config_for
from tests.rpc.fakes import bound

READY = jobs_pb.WatchJobResponse(job=job_pb2.Job(state=job_pb2.JOB_STATE_READY))


@pytest.fixture
async def server(world: World) -> AsyncIterator[HttpServer]:
    """A server that is stopped after the test."""
    app = build_app(bound(world.handlers, metrics=world.metrics), world.metrics, world.readiness)
    server = HttpServer(app)
    yield server
    await server.stop(0)


@pytest.fixture
async def base_url(server: HttpServer) -> str:
    """Where it listens."""
    return f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}"


async def states(answer: httpx.Response) -> list[str]:
    """The states in a stream of lines."""
    return [json.loads(line)["job"]["state"] async for line in answer.aiter_lines()]


async def test_a_second_server_on_the_port_fails_and_says_what_to_do(
    server: HttpServer, base_url: str
) -> None:
    port = int(base_url.rpartition(":")[2])
    with pytest.raises(BindError, match=rf"127\.0\.0\.1:{port} for HTTP.*--http-port"):
        await HttpServer(build_app([], World().metrics, World().readiness)).start("127.0.0.1", port)


POST = b"POST /v1/queues/q/jobs HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/queues HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET /v1/queues?pageToken=\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: " + b"9" * 20 + b"\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_hardly_http_is_refused(base_url: str, sent: bytes) -> None:
    host, _, port = base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    status = (await asyncio.wait_for(reader.readline(), 10)).split()[1]
    assert 400 <= int(status) < 500
    writer.close()


async def connect(base_url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of its own."""
    host, _, port = base_url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost",
        POST + b"Content-Length: 9\r\n\r\n{",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
async def test_a_request_that_does_not_arrive_is_not_waited_for(
    base_url: str, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """How it showed: 1600 connections that never finished a request stood for ever, and held 1600 descriptors."""
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", 0.05)
    reader, writer = await connect(base_url)
    writer.write(sent)
    assert await asyncio.wait_for(reader.read(), 4) == b""
    writer.close()


async def test_a_request_that_has_arrived_may_take_its_time(
    world: World, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def events(_request: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(0.2)
        yield READY

    world.handlers.events = events
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT_S", 0.05)
    async with httpx.AsyncClient(base_url=base_url) as client:
        assert (await client.get("/v1/jobs/x:watch", headers=JSON)).status_code == 200


async def test_nothing_is_read_behind_a_request_of_two_lengths(base_url: str) -> None:
    """How it showed: what stood behind it was answered as a request, as which a proxy need not have seen it."""
    reader, writer = await connect(base_url)
    two = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    writer.write(POST + two + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 4)
    assert answer.count(b"HTTP/1.1") == 1
    writer.close()


def test_the_kernel_ends_connections_of_clients_that_are_gone() -> None:
    """How it showed: a watch whose client lost its network stood for ever."""
    listener = http_server._listen("127.0.0.1", 0, False)
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    if sys.platform == "linux":
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        timeout_ms = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert timeout_ms == http_server.REQUEST_TIMEOUT_S * 1000
        client.close()
        accepted.close()
    listener.close()


async def test_signals_are_left_to_the_application(base_url: str) -> None:
    assert base_url
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_watch_is_a_line_an_event(world: World, base_url: str) -> None:
    async def events(_request: Any) -> AsyncIterator[Any]:
        yield READY
        yield jobs_pb.WatchJobResponse(job=job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED))

    world.handlers.events = events
    async with (
        httpx.AsyncClient(base_url=base_url) as client,
        client.stream("GET", "/v1/queues/q/jobs/x:watch") as answer,
    ):
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert await states(answer) == ["JOB_STATE_READY", "JOB_STATE_SUCCEEDED"]
    assert world.handlers.requests == [jobs_pb.WatchJobRequest(queue="q", job_id="x")]


async def test_watch_as_server_sent_events(world: World, base_url: str) -> None:
    async def events(_request: Any) -> AsyncIterator[Any]:
        yield READY
        raise errors.JobNotFound("it was purged")

    world.handlers.events = events
    async with httpx.AsyncClient(base_url=base_url) as client:
        answer = await client.get("/v1/jobs/x:watch", headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    first, last, empty = answer.text.split("\n\n")
    assert json.loads(first.removeprefix("data: "))["job"]["state"] == "JOB_STATE_READY"
    assert last.startswith("event: error\ndata: ")
    assert json.loads(last.partition("data: ")[2])["code"] == 5
    assert empty == ""


JSON = {"accept": "application/json, text/plain, */*"}


async def test_watch_as_json_waits_for_the_last_event(world: World, base_url: str) -> None:
    async def events(_request: Any) -> AsyncIterator[Any]:
        yield READY
        yield jobs_pb.WatchJobResponse(job=job_pb2.Job(state=job_pb2.JOB_STATE_DEAD))

    world.handlers.events = events
    async with httpx.AsyncClient(base_url=base_url) as client:
        answer = await client.get("/v1/jobs/x:watch", headers=JSON)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["job"]["state"] == "JOB_STATE_DEAD"


async def test_watch_as_json_fails_with_a_status_whenever_it_fails(
    world: World, base_url: str
) -> None:
    async def events(_request: Any) -> AsyncIterator[Any]:
        yield READY
        raise errors.JobNotFound("it was purged")

    world.handlers.events = events
    async with httpx.AsyncClient(base_url=base_url) as client:
        answer = await client.get("/v1/jobs/x:watch", headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (404, 5)


async def test_a_wait_ends_when_its_client_goes(world: World, base_url: str) -> None:
    async def events(_request: Any) -> AsyncIterator[Any]:
        yield READY
        await asyncio.Event().wait()

    world.handlers.events = events
    async with httpx.AsyncClient(base_url=base_url) as client:
        call = asyncio.create_task(client.get("/v1/jobs/x:watch", headers=JSON, timeout=30))
        await asyncio.wait_for(world.handlers.opened.wait(), 5)
        call.cancel()
        await asyncio.wait_for(world.handlers.closed.wait(), 5)


async def test_an_error_before_the_first_event_has_its_http_status(
    world: World, base_url: str
) -> None:
    async def events(_request: Any) -> AsyncIterator[Any]:
        raise errors.JobNotFound("no such job")
        yield

    world.handlers.events = events
    async with httpx.AsyncClient(base_url=base_url) as client:
        assert (await client.get("/v1/jobs/x:watch")).status_code == 404


async def test_an_error_after_it_is_the_last_line(world: World, base_url: str) -> None:
    async def events(_request: Any) -> AsyncIterator[Any]:
        yield READY
        raise errors.JobNotFound("it was purged")

    world.handlers.events = events
    async with httpx.AsyncClient(base_url=base_url) as client:
        answer = await client.get("/v1/jobs/x:watch")
    last = json.loads(answer.text.splitlines()[-1])
    assert last["error"]["details"][0]["reason"] == "JOB_NOT_FOUND"


async def test_the_handler_of_a_stream_ends_when_its_client_goes(
    world: World, base_url: str
) -> None:
    async def events(_request: Any) -> AsyncIterator[Any]:
        yield READY
        await asyncio.Event().wait()

    world.handlers.events = events
    async with (
        httpx.AsyncClient(base_url=base_url) as client,
        client.stream("GET", "/v1/jobs/x:watch") as answer,
    ):
        await anext(answer.aiter_lines())
    await asyncio.wait_for(world.handlers.closed.wait(), 5)


async def test_a_client_that_does_not_read_loses_its_stream(world: World) -> None:
    rpcs = bound(world.handlers, metrics=world.metrics)
    server = HttpServer(build_app(rpcs, world.metrics, world.readiness, write_timeout_s=0.2))
    block = jobs_pb.WatchJobResponse(job=job_pb2.Job(result=bytes(1 << 20)))

    async def events(_request: Any) -> AsyncIterator[Any]:
        while True:
            yield block

    world.handlers.events = events
    _, writer = await asyncio.open_connection("127.0.0.1", await server.start("127.0.0.1", 0))
    writer.write(b"GET /v1/jobs/x:watch HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.wait_for(world.handlers.closed.wait(), 10)
    writer.close()
    await server.stop(0)


async def test_the_write_timeout_that_is_set_holds_for_rest_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It held for gRPC alone: over HTTP it was 15 s, whatever write_timeout_seconds said."""
    told: list[float] = []

    def build(*parts: Any, write_timeout_s: float) -> Any:
        told.append(write_timeout_s)
        return build_app(*parts, write_timeout_s=write_timeout_s)

    monkeypatch.setattr(server_app, "build_app", build)
    server_app.Application(config_for("postgresql://nowhere/queue", write_timeout_seconds=7))
    assert told == [7]


async def test_stop_waits_for_running_calls(
    world: World, server: HttpServer, base_url: str
) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def slow(_request: Any) -> Any:
        started.set()
        await go.wait()
        return jobs_pb.GetJobResponse()

    world.handlers.replies["get_job"] = slow
    async with httpx.AsyncClient(base_url=base_url) as client:
        call = asyncio.create_task(client.get("/v1/jobs/x"))
        await asyncio.wait_for(started.wait(), 5)
        stopping = asyncio.create_task(server.stop(30))
        go.set()
        assert (await call).status_code == 200
        await asyncio.wait_for(stopping, 5)


async def test_stop_ends_streams_after_the_grace(
    world: World, server: HttpServer, base_url: str
) -> None:
    async def events(_request: Any) -> AsyncIterator[Any]:
        yield READY
        await asyncio.Event().wait()

    world.handlers.events = events
    async with (
        httpx.AsyncClient(base_url=base_url) as client,
        client.stream("GET", "/v1/jobs/x:watch") as answer,
    ):
        await anext(answer.aiter_lines())
        await asyncio.wait_for(server.stop(0), 10)
    assert world.handlers.closed.is_set()


async def test_tls(server: HttpServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    issued.private_key_pem.write_to_path(str(files.key))
    issued.cert_chain_pems[0].write_to_path(str(files.cert))
    port = await server.start("127.0.0.1", 0, tls=files)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with httpx.AsyncClient(verify=trusting) as client:
        assert (await client.get(f"https://localhost:{port}/healthz")).status_code == 200
