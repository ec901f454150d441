"""`make cluster`: a whole AtlasQueue on this machine, without containers.

                       ┌─ server-1 ─┐
embedded PostgreSQL ◀──┼─ server-2 ─┼──▶ worker-1, worker-2      load: 50 jobs/s
                       └─ server-3 ─┘◀── Prometheus, where it is installed
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import threading
import urllib.error
from pathlib import Path

from atlasqueue_server.embedded import EmbeddedPostgres, EmbeddedPostgresError
from atlasqueue_server.store.fitness import UnfitDatabase
from atlasqueue_server.store.migrations import migrate
from deploy.cluster.processes import Children
from deploy.cluster.topology import Cluster, ClusterError, Plan, settled_jobs

LOOK_EACH_S = 1.0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="make cluster",
        description="Start PostgreSQL, servers, workers, a load and Prometheus; Ctrl-C stops them.",
        epilog="Example: make cluster ARGS='--workers 4 --rate 500'",
    )
    plan = Plan()
    parser.add_argument("--servers", type=int, default=plan.servers, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=plan.workers, help="(%(default)s)")
    parser.add_argument("--slots", type=int, default=plan.slots, help="of a worker (%(default)s)")
    parser.add_argument("--rate", type=int, default=plan.rate, help="jobs a second (%(default)s)")
    parser.add_argument(
        "--base-port",
        type=int,
        default=plan.base_port,
        help="servers listen on it, on it + 10, … (gRPC) and one above each (HTTP), metrics of "
        "workers two above, Prometheus on it + 1000; 0: any free ports (%(default)s)",
    )
    parser.add_argument("--no-prometheus", action="store_true", help="leave Prometheus out")
    parser.add_argument(
        "--data", type=Path, help="keep PostgreSQL's data here; default: delete it at the end"
    )
    parser.add_argument(
        "--jobs", type=int, help="enqueue so many jobs, wait until all are done, and end"
    )
    given = parser.parse_args()
    for name, least in (("servers", 1), ("workers", 0), ("slots", 1), ("rate", 1), ("jobs", 1)):
        value = getattr(given, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be at least {least}")
    return given


def say(line: str) -> None:
    """A line for people, at once."""
    print(line, flush=True)


def what_to_try(cluster: Cluster) -> str:
    """Addresses and things to do."""
    lines = ["", "AtlasQueue is up.", ""]
    for server in cluster.servers:
        pid = server.child.process.pid
        lines.append(
            f"  {server.child.name}   gRPC {server.grpc}   HTTP http://{server.http}   pid {pid}"
        )
    lines += [f"  {worker.name}   pid {worker.process.pid}" for worker in cluster.workers]
    if cluster.prometheus_url:
        lines.append(
            f"  prometheus {cluster.prometheus_url} (alerts: {cluster.prometheus_url}/alerts)"
        )
    http = cluster.servers[0].http
    lines += [
        f"  logs       {cluster.children.directory}",
        "",
        "Try:",
        f"  curl -s http://{http}/v1/cluster                     who leads, under which term",
        f"  curl -s http://{http}/v1/queues/mail/depth           jobs by state",
        f"  curl -s http://{http}/metrics | grep ^atlasqueue_",
        "  kill -9 PID of the leader                      another leads within 5 s, nothing is lost",
        "  kill -9 PID of a worker                        its jobs run again after 30 s",
        "  kill -STOP PID of a server, then kill -CONT    workers move away and come back",
        "",
        "docs/cluster.md explains what you will see. Ctrl-C stops everything.",
    ]
    return "\n".join(lines)


def watch(cluster: Cluster, stop: threading.Event) -> None:
    """Says which process ended, until `stop`."""
    told: set[str] = set()
    while not stop.wait(LOOK_EACH_S):
        for child in cluster.children.all:
            if child.name not in told and not child.alive:
                told.add(child.name)
                say(f"{child.name} ended ({child.process.returncode}); its log: {child.log}")


def until_done(cluster: Cluster, jobs: int, stop: threading.Event) -> bool:
    """Waits until `jobs` jobs have succeeded or died; False when stopped before."""
    while not stop.wait(0.3):
        if dead := [child.name for child in cluster.workers if not child.alive]:
            raise ClusterError(f"{', '.join(dead)} ended before the jobs did")
        with contextlib.suppress(urllib.error.URLError, OSError):
            settled = sum(map(sum, settled_jobs(cluster.servers[0].http).values()))
            if settled >= jobs:
                return True
    return False


def run(given: argparse.Namespace, plan: Plan, directory: Path, stop: threading.Event) -> int:
    """Brings the cluster up, waits, and takes it down; the exit code."""
    children = Children(directory)
    data = given.data or directory / "postgres"
    with EmbeddedPostgres(data, temporary=given.data is None, on_progress=say) as postgres:
        asyncio.run(migrate(postgres.url))
        cluster = Cluster(plan, postgres.url, children, say)
        try:
            cluster.start()
            say(what_to_try(cluster))
            if given.jobs is None:
                watch(cluster, stop)
            elif until_done(cluster, given.jobs, stop):
                say(f"all {given.jobs} jobs are done: {settled_jobs(cluster.servers[0].http)}")
        except ClusterError as error:
            say(f"error: {error}")
            return 1
        finally:
            say("stopping ...")
            if killed := children.stop():
                say(f"had to kill {', '.join(killed)}")
    say("stopped everything")
    return 0


def main() -> int:
    """Runs until Ctrl-C, SIGTERM or the end of --jobs."""
    given = arguments()
    plan = Plan(
        servers=given.servers,
        workers=given.workers,
        slots=given.slots,
        rate=given.rate,
        count=given.jobs,
        base_port=given.base_port,
        prometheus=not given.no_prometheus,
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="atlasqueue-cluster-") as directory:
        try:
            return run(given, plan, Path(directory), stop)
        except (EmbeddedPostgresError, UnfitDatabase) as error:
            say(f"error: {error}")
            return 1


if __name__ == "__main__":
    sys.exit(main())
