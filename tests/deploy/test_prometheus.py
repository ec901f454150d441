"""A real system, watched by a real Prometheus: the values are right, and every expression finds series."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from atlasqueue import AsyncClient, JobNotFound, NewJob, QueuePolicy, RetryPolicy, new_job_id
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue.v1.worker_service_pb2_grpc import WorkerServiceStub
from deploy.cluster.processes import Children
from deploy.cluster.scrape import prometheus_config
from tests.deploy.promql import (
    Prometheus,
    alert_expressions,
    alert_selectors,
    dashboard_expressions,
)
from tests.plugins.processes import Processes, free_port
from tests.waiting import eventually

APP = "tests.deploy.app:app"
GOOD, FLAKY, DOOMED = 20, 5, 3
# What Prometheus must come to say; each is exact.
EXPECTED = {
    'sum(atlasqueue_jobs_enqueued_total{queue="ends", kind="good"})': GOOD,
    'sum(atlasqueue_jobs_completed_total{queue="ends", kind="good"})': GOOD,
    'sum(atlasqueue_jobs_retried_total{queue="ends", kind="flaky"})': FLAKY,
    'sum(atlasqueue_jobs_completed_total{queue="ends", kind="flaky"})': FLAKY,
    'sum(atlasqueue_jobs_leased_total{queue="ends", kind="flaky"})': 2 * FLAKY,
    'sum(atlasqueue_jobs_dead_lettered_total{queue="ends", reason="rejected"})': DOOMED,
    'max(atlasqueue_queue_jobs{queue="ends", state="dead"})': DOOMED,
    'max(atlasqueue_queue_jobs{queue="ends", state="succeeded"})': GOOD + FLAKY + 1,
    'sum(atlasqueue_jobs_snoozed_total{queue="ends"})': 1,
    'sum(atlasqueue_jobs_released_total{queue="ends"})': 1,
    'sum(atlasqueue_jobs_set_aside_total{queue="ends"})': 1,
    'sum(atlasqueue_jobs_cancelled_total{queue="idle"})': 1,
    'sum(atlasqueue_jobs_expired_total{queue="held"})': 1,
    'sum(atlasqueue_jobs_reconciled_total{queue="loose"})': 1,
    'sum(atlasqueue_reports_refused_total{queue="loose", status="stale"})': 1,
    'sum(atlasqueue_worker_jobs_ended_total{outcome="complete"})': GOOD + FLAKY + 1,
    "max(atlasqueue_cluster_leader)": 1,
    'sum(up{job="atlasqueue-server"})': 1,
}

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not installed: run `make tools`"
)


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    """Starts programs, and stops them."""
    started = Children(tmp_path)
    yield started
    started.stop()


def start_prometheus(children: Children, server: str, worker: str) -> Prometheus:
    """A Prometheus with our rules that scrapes these two each second."""
    config = children.directory / "prometheus.yml"
    config.write_text(prometheus_config([server], [worker], scrape_each="1s"))
    port = free_port()
    children.start(
        "prometheus",
        *(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={children.directory}/tsdb",
        ),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    )
    return Prometheus(f"http://127.0.0.1:{port}")


async def lose_a_lease(address: str) -> None:
    """Leases a job, stops naming it, and reports on it nevertheless."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = WorkerServiceStub(channel)
        leased = await stub.LeaseOnce(
            wire.LeaseOnceRequest(queues=["loose"], max_jobs=1, worker="forgetful")
        )
        job, session = leased.jobs[0], leased.session
        await stub.Heartbeat(
            wire.HeartbeatRequest(
                session_id=session.session_id, epoch=session.epoch, last_fence=job.fence
            )
        )
        outcome = wire.JobOutcome(queue=job.queue, job_id=job.job_id, fence=job.fence)
        outcome.complete.SetInParent()
        answer = await stub.Report(
            wire.ReportRequest(session_id=session.session_id, outcomes=[outcome])
        )
        assert answer.results[0].status == wire.REPORT_STATUS_STALE


async def let_everything_happen(client: AsyncClient, processes: Processes, server: str) -> None:
    """Every verb once or more, but those that run by themselves."""
    quick = RetryPolicy(max_attempts=3, initial_backoff=timedelta(milliseconds=100))
    kinds = ["good"] * GOOD + ["flaky"] * FLAKY + ["doomed"] * DOOMED + ["sleepy", "unheard-of"]
    await client.enqueue_many([NewJob("ends", kind, retry_policy=quick) for kind in kinds])
    await client.cancel(await client.enqueue("idle", "nobody"))
    await client.enqueue("loose", "forgotten")
    await lose_a_lease(server)
    with pytest.raises(JobNotFound):
        await client.get(new_job_id(), queue="ends")
    await client.queues.update_policy("held", QueuePolicy(quick, timedelta(seconds=1)))
    await client.enqueue("held", "held")
    doomed = processes.worker(APP, server, "--queues", "held")

    async def is_leased() -> bool:
        return (await client.queues.depth("held")).leased == 1

    await eventually(is_leased)
    doomed.kill()


async def test_prometheus_tells_what_happened_and_every_expression_finds_series(
    processes: Processes, children: Children, migrated_database_url: str
) -> None:
    http, worker_port = free_port(), free_port()
    server = processes.server(migrated_database_url, "--http-port", str(http))
    prometheus = start_prometheus(children, f"127.0.0.1:{http}", f"127.0.0.1:{worker_port}")
    async with AsyncClient(server.address) as client:
        await let_everything_happen(client, processes, server.address)
        options = ("--queues", "ends", "--metrics-port", str(worker_port))
        processes.worker(APP, server.address, *options)

        async def wrong() -> dict[str, float | None]:
            found = {name: await prometheus.value(name) for name in EXPECTED}
            return {name: value for name, value in found.items() if value != EXPECTED[name]}

        async def all_right() -> bool:
            return not await wrong()

        try:
            await eventually(all_right, within_s=60, each_s=0.5)
        except AssertionError:
            assert await wrong() == {}
        mute = [*dashboard_expressions(), *alert_selectors()]
        assert len(mute) > 80

        async def nothing_is_mute() -> bool:
            mute[:] = [each for each in mute if not await prometheus.series(each)]
            return not mute

        try:
            await eventually(nothing_is_mute, within_s=30, each_s=0.5)
        except AssertionError:
            assert mute == []
    for expression in alert_expressions():
        await prometheus.series(expression)
