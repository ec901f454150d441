"""The gRPC port: health, reflection, TLS, a taken port, a graceful stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from atlasqueue.v1 import job_service_pb2 as jobs_pb
from atlasqueue.v1 import job_service_pb2_grpc
from atlasqueue_server.app import Application
from atlasqueue_server.metrics import Metrics
from atlasqueue_server.rpc.health import Health
from atlasqueue_server.rpc.server import GrpcOptions, GrpcServer
from atlasqueue_server.startup import BindError, StartupError, TlsFiles
from tests.plugins.server import config_for
from tests.rpc.fakes import Handlers, bound, yes

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def new_server(probe: Any = yes) -> GrpcServer:
    """A server that nobody has started."""
    metrics = Metrics("test")
    return GrpcServer(bound(Handlers(), metrics=metrics), probe, metrics)


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    """A server that is stopped after the test."""
    server = new_server()
    yield server
    await server.stop(0)


async def check(channel: grpc.aio.Channel, service: str = "") -> int:
    """What the health service says of `service`."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def test_a_second_server_on_the_port_fails_and_says_what_to_do(server: GrpcServer) -> None:
    port = await server.start("127.0.0.1", 0)
    with pytest.raises(BindError, match=rf"127\.0\.0\.1:{port} for gRPC.*--grpc-port") as caught:
        await new_server().start("127.0.0.1", port)
    assert caught.value.exit_code == 3


async def test_servers_share_a_port_when_asked(server: GrpcServer) -> None:
    port = await server.start("127.0.0.1", 0, reuse_port=True)
    other = new_server()
    assert await other.start("127.0.0.1", port, reuse_port=True) == port
    await other.stop(0)


async def test_health_follows_the_database() -> None:
    answers = {"database": False}

    async def probe() -> bool:
        if not answers["database"]:
            raise ConnectionError("the database does not answer")
        return True

    metrics = Metrics("test")
    health = Health(["atlasqueue.v1.JobService"], probe, metrics, interval_s=0.01)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await health.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await check(channel, "atlasqueue.v1.JobService") == NOT_SERVING
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == NOT_SERVING
        answers["database"] = True
        assert (await asyncio.wait_for(watch.read(), 5)).status == SERVING
        assert metrics.registry.get_sample_value("atlasqueue_healthy") == 1
        assert await check(channel, "atlasqueue.v1.JobService") == SERVING
        answers["database"] = False
        assert (await asyncio.wait_for(watch.read(), 5)).status == NOT_SERVING
        assert metrics.registry.get_sample_value("atlasqueue_healthy") == 0
        await health.drain()
    await server.stop(0)


async def test_drain_is_not_serving_and_stop_does_not_wait_for_watches(server: GrpcServer) -> None:
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        await server.drain()
        assert (await asyncio.wait_for(watch.read(), 5)).status == NOT_SERVING
        assert await check(channel) == NOT_SERVING
        await asyncio.wait_for(server.stop(60), 5)


async def test_stop_waits_for_running_calls() -> None:
    handlers, metrics = Handlers(), Metrics("test")
    started, go = asyncio.Event(), asyncio.Event()

    async def enqueue(_request: Any) -> Any:
        started.set()
        await go.wait()
        return jobs_pb.EnqueueResponse(job_id="done")

    handlers.replies["enqueue"] = enqueue
    server = GrpcServer(bound(handlers, metrics=metrics), yes, metrics)
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = job_service_pb2_grpc.JobServiceStub(channel).Enqueue(jobs_pb.EnqueueRequest())
        await asyncio.wait_for(started.wait(), 5)
        stopping = asyncio.create_task(server.stop(30))
        go.set()
        assert (await call).job_id == "done"
        await asyncio.wait_for(stopping, 5)


async def test_reflection_lists_all_services(server: GrpcServer) -> None:
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: Any = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in ask(iter([question]))]
    assert {service.name for service in answers[0].list_services_response.service} == {
        "atlasqueue.v1.JobService",
        "atlasqueue.v1.QueueService",
        "atlasqueue.v1.WorkerService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


@pytest.fixture
def authority() -> trustme.CA:
    """A certificate authority of the test's own."""
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA, tmp_path: Path) -> TlsFiles:
    """Files with a certificate for localhost."""
    issued = authority.issue_cert("localhost")
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    issued.private_key_pem.write_to_path(str(files.key))
    issued.cert_chain_pems[0].write_to_path(str(files.cert))
    assert files.client_ca
    authority.cert_pem.write_to_path(str(files.client_ca))
    files.check()
    return files


async def test_tls_asks_clients_for_their_certificate(
    server: GrpcServer, tls: TlsFiles, authority: trustme.CA
) -> None:
    port = await server.start("127.0.0.1", 0, tls=tls)
    mine = authority.issue_cert("client")
    trusted = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(), mine.private_key_pem.bytes(), mine.cert_chain_pems[0].bytes()
    )
    stranger = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    async with grpc.aio.secure_channel(f"localhost:{port}", trusted) as channel:
        assert await check(channel) == SERVING
    async with grpc.aio.secure_channel(f"localhost:{port}", stranger) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(channel)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_missing_tls_file_is_named(server: GrpcServer, tls: TlsFiles) -> None:
    tls.key.unlink()
    with pytest.raises(StartupError, match=r"key\.pem"):
        await server.start("127.0.0.1", 0, tls=tls)


def test_connections_end_at_their_age_and_never_with_an_endless_grace() -> None:
    arguments = dict(GrpcOptions(max_connection_age_s=60).channel_arguments(False))
    assert arguments["grpc.max_connection_age_ms"] == 60_000
    assert arguments["grpc.max_connection_age_grace_ms"] == 60_000
    assert "grpc.max_connection_age_ms" not in dict(
        GrpcOptions(max_connection_age_s=0).channel_arguments(False)
    )


async def test_the_connection_age_of_the_configuration_is_used() -> None:
    """How it showed: --max-connection-age-seconds was read, checked and forgotten."""
    application = Application(config_for("postgresql://x", max_connection_age_seconds=77))
    arguments = dict(application._grpc._options.channel_arguments(False))
    assert arguments["grpc.max_connection_age_ms"] == 77_000
