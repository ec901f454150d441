"""What `atlasqueue workers` and `cluster` do."""

from __future__ import annotations

from atlasqueue.v1 import queue_service_pb2 as pb
from atlasqueue_cli import output, views
from atlasqueue_cli.connection import Connection, pages
from atlasqueue_cli.options import Settings


def all_workers(connection: Connection) -> list[pb.WorkerSession]:
    """Every session that lives, newest first."""
    request = pb.ListWorkersRequest(page_size=1000)
    found = pages(connection, lambda stubs: stubs.queues.ListWorkers, request, "workers", None)
    return [worker for page, _ in found for worker in page]


def read_cluster(connection: Connection) -> pb.GetClusterResponse:
    """The servers and the leader."""
    response: pb.GetClusterResponse = connection.call(
        lambda stubs: stubs.queues.GetCluster, pb.GetClusterRequest()
    )
    return response


def workers(settings: Settings) -> None:
    """Lists the workers."""
    with Connection(settings) as connection:
        found = all_workers(connection)
    if settings.json:
        for worker in found:
            output.print_json(worker)
    else:
        output.print_table(views.WORKER_HEADER, [views.worker_row(worker) for worker in found])


def show(settings: Settings) -> None:
    """Lists the servers."""
    with Connection(settings) as connection:
        found = read_cluster(connection)
    if settings.json:
        output.print_json(found)
        return
    output.print_table(views.SERVER_HEADER, [views.server_row(server) for server in found.servers])
    print(views.cluster_line(found))
