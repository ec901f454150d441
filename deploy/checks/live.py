"""Checks against a server that runs."""

from __future__ import annotations

import asyncio
import tempfile
import time
import urllib.request
from pathlib import Path

from atlasqueue_server.embedded import EmbeddedPostgres
from atlasqueue_server.store.migrations import migrate
from deploy.checks.static import run, tool
from deploy.cluster.processes import Children
from deploy.cluster.topology import Cluster, ClusterError, Plan, settled_jobs

JOBS = 50
WITHIN_S = 60.0


def check_metrics() -> list[str]:
    """promtool check metrics, on what a server exposes once jobs have gone through it."""
    promtool = tool("promtool")
    with tempfile.TemporaryDirectory(prefix="atlasqueue-check-") as name:
        directory = Path(name)
        with EmbeddedPostgres(directory / "postgres", temporary=True) as postgres:
            asyncio.run(migrate(postgres.url))
            plan = Plan(servers=1, workers=1, count=JOBS, base_port=0, prometheus=False)
            cluster = Cluster(plan, postgres.url, Children(directory), lambda _line: None)
            try:
                cluster.start()
                _until_settled(cluster.servers[0].http)
                url = f"http://{cluster.servers[0].http}/metrics"
                with urllib.request.urlopen(url, timeout=10) as answer:
                    text = answer.read().decode()
            except ClusterError as error:
                return [str(error)]
            finally:
                cluster.children.stop()
    if "atlasqueue_jobs_completed_total{" not in text:
        return ["/metrics does not tell of the jobs that completed"]
    return run(promtool, "check", "metrics", text=text)


def _until_settled(http: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while sum(map(sum, settled_jobs(http).values())) < JOBS:
        if time.monotonic() > deadline:
            raise ClusterError(f"{JOBS} jobs were not done within {WITHIN_S:g} s")
        time.sleep(0.2)
