"""A real server in the test's own process and event loop, on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Protocol

import grpc
import pytest
from pydantic import SecretStr

from atlasqueue.v1 import job_service_pb2_grpc, queue_service_pb2_grpc, worker_service_pb2_grpc
from atlasqueue_server.app import Application
from atlasqueue_server.config import ServerConfig


@dataclass
class RunningServer:
    """A server with stubs on one channel to it."""

    application: Application
    channel: grpc.aio.Channel
    jobs: job_service_pb2_grpc.JobServiceStub = field(init=False)
    workers: worker_service_pb2_grpc.WorkerServiceStub = field(init=False)
    queues: queue_service_pb2_grpc.QueueServiceStub = field(init=False)

    def __post_init__(self) -> None:
        self.jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self.workers = worker_service_pb2_grpc.WorkerServiceStub(self.channel)
        self.queues = queue_service_pb2_grpc.QueueServiceStub(self.channel)

    @property
    def grpc_address(self) -> str:
        """Where it answers gRPC."""
        return f"127.0.0.1:{self.application.grpc_port}"

    @property
    def http_address(self) -> str:
        """Where it answers HTTP."""
        return f"http://127.0.0.1:{self.application.http_port}"


def config_for(database_url: str, **settings: object) -> ServerConfig:
    """A configuration for a test: any free ports, no waiting at the end."""
    values: dict[str, object] = {"grpc_port": 0, "http_port": 0, "drain_grace_seconds": 1}
    return ServerConfig(database_url=SecretStr(database_url), **(values | settings))  # type: ignore[arg-type]


class ServerFactory(Protocol):
    """Starts a server on a migrated database, with settings."""

    def __call__(self, database_url: str, **settings: object) -> Awaitable[RunningServer]: ...


@pytest.fixture
async def start_server() -> AsyncIterator[ServerFactory]:
    """Starts servers on migrated databases; they are stopped after the test."""
    running: list[RunningServer] = []

    async def start(database_url: str, **settings: object) -> RunningServer:
        application = Application(config_for(database_url, **settings))
        await application.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{application.grpc_port}")
        running.append(RunningServer(application, channel))
        return running[-1]

    yield start
    for server in running:
        await server.channel.close()
        await server.application.drain()
        await server.application.stop()


@pytest.fixture
async def server(migrated_database_url: str, start_server: ServerFactory) -> RunningServer:
    """A server on a fresh database; it stops before the database is dropped."""
    return await start_server(migrated_database_url)
