"""docs/metrics.md and what servers and workers expose are the same, and their values are right."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from atlasqueue import AsyncClient, NewJob, RetryPolicy
from atlasqueue_worker import (
    App,
    Cancel,
    JobContext,
    Reject,
    Release,
    Snooze,
    Worker,
    WorkerMetrics,
)
from tests.factories import take_term_by_force
from tests.plugins.server import RunningServer
from tests.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", re.MULTILINE)
NAME = re.compile(r"`(\w+)`")
PROCESS = ("process_", "python_")
Catalogue = dict[str, tuple[str, frozenset[str]]]

app = App()


@app.job("send", queue="mail")
async def send(job: JobContext) -> None:
    match job.payload:
        case b"fail":
            raise ValueError("no")
        case b"reject":
            raise Reject("never")
        case b"snooze":
            raise Snooze(3600)
        case b"cancel":
            raise Cancel("no more")
        case b"release" if job.deliveries == 1:
            raise Release()


def documented() -> Catalogue:
    """name → (type, labels), as the page has it."""
    return {
        name: (kind, frozenset(NAME.findall(labels)))
        for name, kind, labels in ROW.findall(PAGE.read_text())
    }


def exposed(text: str) -> Catalogue:
    """name → (type, labels), as a scrape has it."""
    found: Catalogue = {}
    for family in text_string_to_metric_families(text):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        suffix = "_total" if family.type == "counter" else ""
        found[family.name + suffix] = (family.type, frozenset(labels))
    return found


async def scrape(server: RunningServer) -> str:
    """What the server exposes."""
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{server.http_address}/metrics")).text


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    families: list[Metric] = list(text_string_to_metric_families(text))
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.fixture
async def metrics(server: RunningServer) -> AsyncIterator[WorkerMetrics]:
    """Those of a worker that runs."""
    metrics = WorkerMetrics()
    worker = Worker(app, server.grpc_address, slots=4, grace=1, metrics=metrics)
    running = asyncio.create_task(worker.run())
    yield metrics
    worker.stop()
    await running


async def test_every_outcome_is_counted_once(server: RunningServer, metrics: WorkerMetrics) -> None:
    once = RetryPolicy(max_attempts=1)
    # With the default's full jitter, a retry came due within the test now and then.
    hour = timedelta(hours=1)
    late = RetryPolicy(initial_backoff=hour, max_backoff=hour)
    payloads = [b"ok", b"ok", b"snooze", b"reject", b"cancel", b"release"]
    jobs = [NewJob("mail", "send", payload) for payload in payloads]
    jobs.append(NewJob("mail", "send", b"fail", retry_policy=late))
    jobs.append(NewJob("mail", "send", b"fail", retry_policy=once))
    jobs.append(NewJob("mail", "nobody"))
    async with AsyncClient(server.grpc_address) as client:
        ids = await client.enqueue_many(jobs)
        await client.enqueue("mail", "send", b"ok", job_id=ids[0])

        async def settled() -> bool:
            depth = await client.queues.depth("mail")
            return (depth.ready, depth.leased, depth.scheduled) == (0, 0, 3)

        await eventually(settled)
        await client.dead_letters.redrive("mail", job_ids=[ids[3]])
        await eventually(settled)
    text = await scrape(server)
    pair = {"queue": "mail", "kind": "send"}
    assert value(text, "atlasqueue_jobs_enqueued_total", **pair) == 8
    assert value(text, "atlasqueue_jobs_enqueued_total", queue="mail", kind="nobody") == 1
    assert value(text, "atlasqueue_enqueues_repeated_total", queue="mail") == 1
    # The released and the redriven one twice.
    assert value(text, "atlasqueue_jobs_leased_total", **pair) == 10
    assert value(text, "atlasqueue_jobs_completed_total", **pair) == 3
    assert value(text, "atlasqueue_jobs_retried_total", **pair) == 1
    assert value(text, "atlasqueue_jobs_snoozed_total", **pair) == 1
    assert value(text, "atlasqueue_jobs_cancelled_total", **pair) == 1
    assert value(text, "atlasqueue_jobs_released_total", **pair) == 1
    assert value(text, "atlasqueue_jobs_set_aside_total", queue="mail", kind="nobody") == 1
    dead = "atlasqueue_jobs_dead_lettered_total"
    assert value(text, dead, **pair, reason="rejected") == 2
    assert value(text, dead, **pair, reason="attempts_spent") == 1
    assert value(text, "atlasqueue_jobs_redriven_total", queue="mail") == 1
    assert value(text, "atlasqueue_job_run_seconds_count", **pair) == 10
    assert value(text, "atlasqueue_job_wait_seconds_count", queue="mail") == 9
    ended = "atlasqueue_worker_jobs_ended_total"
    told = expose(metrics)
    assert value(told, ended, **pair, outcome="complete") == 3
    assert value(told, ended, queue="mail", kind="_unknown", outcome="unknown_kind") == 1
    assert value(told, "atlasqueue_worker_job_run_seconds_count", **pair) == 10
    assert value(told, "atlasqueue_worker_reports_total", status="applied") == 11


def expose(metrics: WorkerMetrics) -> str:
    """What a worker exposes."""
    port = metrics.serve("127.0.0.1", 0)
    return httpx.get(f"http://127.0.0.1:{port}/metrics").text


async def test_the_catalogue_is_what_is_exposed(
    server: RunningServer, metrics: WorkerMetrics
) -> None:
    journal = server.application.metrics.journal
    async with AsyncClient(server.grpc_address) as client:
        job_id = await client.enqueue("mail", "send")
        await client.wait(job_id, timeout=30)
    # What a short test does not meet; the labels are what counts here.
    journal.expired("mail", job_id, 1, "dead")
    journal.passed_deadline("mail", 1, "scheduled")
    journal.promoted("mail", 1)
    journal.purged("mail", 1)
    journal.redriven("mail", 1)
    journal.cancelled("mail", job_id)
    for counter in (journal._snoozed, journal._released, journal._set_aside):
        counter.inc(("mail", "send"))
    for counter in (journal._reconciled, journal._reports_repeated, journal._repeated):
        counter.inc(("mail",))
    journal._refused.inc(("mail", "stale"))
    leader = server.application.leader

    async def ticks() -> bool:
        return leader.leading and leader.loops[0].ticks > 0

    await eventually(ticks)
    found = exposed(await scrape(server)) | exposed(expose(metrics))
    ours = {name: found[name] for name in found if not name.startswith(PROCESS)}
    assert ours == documented()
    others = set(re.findall(r"`((?:process|python)_\w+)`", PAGE.read_text()))
    assert others == {name for name in found if name.startswith(PROCESS)}


async def test_a_server_that_lost_the_lead_tells_its_last_term(
    server: RunningServer, migrated_database_url: str
) -> None:
    """How it showed: the term fell to 0, "never led", as soon as another server had taken over."""
    leader = server.application.leader

    async def leads() -> bool:
        return leader.leading

    async def follows() -> bool:
        return not leader.leading and leader.term is None

    await eventually(leads)
    led = leader.led_term
    await take_term_by_force(migrated_database_url)
    await eventually(follows)
    assert value(await scrape(server), "atlasqueue_scheduler_term") == led > 0


async def test_promtool_finds_nothing_to_say(server: RunningServer, metrics: WorkerMetrics) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; Debian: apt-get install prometheus")
    async with AsyncClient(server.grpc_address) as client:
        await client.wait(await client.enqueue("mail", "send"), timeout=30)
    for text in (await scrape(server), expose(metrics)):
        done = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""


async def test_any_number_of_names_makes_a_bounded_number_of_series(server: RunningServer) -> None:
    jobs = [NewJob(f"q{i}", f"k{j}") for i in range(250) for j in range(40)]
    async with AsyncClient(server.grpc_address) as client:
        await client.enqueue_many(jobs[:5000])
        before = len((await scrape(server)).splitlines())
        await client.enqueue_many(jobs[5000:])
    text = await scrape(server)
    assert value(text, "atlasqueue_jobs_enqueued_total") == 10_000
    assert value(text, "atlasqueue_jobs_enqueued_total", queue="_other", kind="_other") > 0
    assert len(text.splitlines()) < before + 50
    assert len(re.findall(r"^atlasqueue_jobs_enqueued_total", text, re.MULTILINE)) <= 401
