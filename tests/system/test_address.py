"""What a server is called in the cluster."""

from __future__ import annotations

import socket

import pytest

from atlasqueue.v1 import queue_service_pb2
from tests.plugins.server import ServerFactory


@pytest.mark.parametrize(("host", "name"), [("0.0.0.0", None), ("127.0.0.1", "127.0.0.1")])
async def test_a_server_on_all_addresses_has_its_machines_name(
    migrated_database_url: str, start_server: ServerFactory, host: str, name: str | None
) -> None:
    """How it showed: in containers all servers were 0.0.0.0:7420, and nobody could tell which one leads."""
    server = await start_server(migrated_database_url, host=host, insecure=True)
    cluster = await server.queues.GetCluster(queue_service_pb2.GetClusterRequest())
    (one,) = cluster.servers
    assert one.address == f"{name or socket.gethostname()}:{server.application.grpc_port}"
