"""What the cluster consists of: addresses, the order of starting, and what each part is told."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from atlasqueue_server.embedded.ports import free_ports, is_port_free
from deploy.cluster.processes import Child, Children
from deploy.cluster.scrape import prometheus_config
from deploy.load.app import QUEUES

APP = "deploy.load.app:app"
READY_S = 60.0
STEP = 10
# Prometheus listens so far above the first server.
PROMETHEUS_ABOVE = 1000
PORT_MAX = 65_535


class ClusterError(Exception):
    """The cluster cannot come up; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server of the cluster and its two addresses."""

    child: Child
    grpc: str
    http: str


@dataclass(slots=True)
class Plan:
    """How large, and on which ports. `base_port` 0 takes any free ones."""

    servers: int = 3
    workers: int = 2
    slots: int = 20
    rate: int = 50
    count: int | None = None
    base_port: int = 7420
    prometheus: bool = True


@dataclass(slots=True)
class Cluster:
    """Servers, workers, load and Prometheus on one database."""

    plan: Plan
    database_url: str
    children: Children
    say: Callable[[str], None]
    servers: list[Server] = field(default_factory=list)
    workers: list[Child] = field(default_factory=list)
    worker_metrics: list[str] = field(default_factory=list)
    load: Child | None = None
    prometheus_url: str = ""

    def start(self) -> None:
        """Starts all of it; returns when every server is ready. Raises ClusterError."""
        ports = ports_of(self.plan)
        for number in range(self.plan.servers):
            self._start_server(number + 1, ports[2 * number], ports[2 * number + 1])
        for server in self.servers:
            _until_answers(server.child, f"http://{server.http}/readyz")
            self.say(f"{server.child.name} is ready")
        self._start_workers(ports[2 * self.plan.servers : -1])
        self._start_load()
        self._start_prometheus(ports[-1])

    def addresses(self) -> str:
        """All gRPC addresses, as clients take them."""
        return ",".join(server.grpc for server in self.servers)

    def _start_server(self, number: int, grpc: int, http: int) -> None:
        child = self.children.module(
            f"server-{number}",
            *("atlasqueue_server", "serve", "--grpc-port", str(grpc), "--http-port", str(http)),
            # Not a flag, which other users of the machine could read: it holds the password.
            environment={"ATLASQUEUE_DATABASE_URL": self.database_url},
        )
        self.servers.append(Server(child, f"127.0.0.1:{grpc}", f"127.0.0.1:{http}"))

    def _start_workers(self, ports: list[int]) -> None:
        for number, port in enumerate(ports, start=1):
            name = f"worker-{number}"
            command = ["atlasqueue_worker", "run", APP, "--server", self.addresses()]
            command += ["--slots", str(self.plan.slots), "--name", name]
            command += ["--metrics-port", str(port)]
            self.worker_metrics.append(f"127.0.0.1:{port}")
            self.workers.append(self.children.module(name, *command))

    def _start_load(self) -> None:
        command = ["deploy.load", "--server", self.addresses(), "--rate", str(self.plan.rate)]
        if self.plan.count is not None:
            command += ["--count", str(self.plan.count)]
        self.load = self.children.module("load", *command)

    def _start_prometheus(self, port: int) -> None:
        program = shutil.which("prometheus") if self.plan.prometheus else None
        if program is None:
            if self.plan.prometheus:
                self.say("no Prometheus: it is not installed (`make tools` does on Debian)")
            return
        directory = self.children.directory / "prometheus"
        directory.mkdir()
        config = directory / "prometheus.yml"
        config.write_text(
            prometheus_config([server.http for server in self.servers], self.worker_metrics)
        )
        child = self.children.start(
            "prometheus",
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        )
        self.prometheus_url = f"http://127.0.0.1:{port}"
        _until_answers(child, f"{self.prometheus_url}/-/ready")
        self.say("prometheus is ready")


def ports_of(plan: Plan) -> list[int]:
    """gRPC and HTTP of each server, metrics of each worker, Prometheus. Raises ClusterError."""
    if plan.base_port == 0:
        return free_ports(2 * plan.servers + plan.workers + 1)
    ports = [plan.base_port + STEP * n + offset for n in range(plan.servers) for offset in (0, 1)]
    ports += [plan.base_port + 2 + STEP * n for n in range(plan.workers)]
    ports.append(plan.base_port + PROMETHEUS_ABOVE)
    if plan.base_port < 0 or max(ports) > PORT_MAX:
        raise ClusterError(
            f"the ports would be {plan.base_port} to {max(ports)}, and {PORT_MAX} is the last: "
            f"say --base-port 0 for any free ones, or 1 to {PORT_MAX - max(ports) + plan.base_port}"
        )
    if taken := [port for port in ports if not is_port_free(port)]:
        wrong = ", ".join(map(str, taken))
        raise ClusterError(
            f"something listens on {wrong} already: stop it, or say --base-port 0 for any free ports"
        )
    return ports


def _until_answers(child: Child, url: str) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if not child.alive:
            raise ClusterError(f"{child.name} ended:\n{tail(child.log)}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise ClusterError(f"{child.name} does not answer within {READY_S:g} s:\n{tail(child.log)}")


def tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-10:])


def settled_jobs(http: str) -> dict[str, tuple[int, int]]:
    """Jobs that succeeded and that died, by queue."""
    found = {}
    for queue in QUEUES:
        try:
            with urllib.request.urlopen(f"http://{http}/v1/queues/{queue}/depth", timeout=5) as it:
                depth = json.load(it)["depth"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            continue
        found[queue] = (int(depth["succeeded"]), int(depth["dead"]))
    return found
