"""One trace from a producer through the server and SQL to the worker's handler, by real processes and OTLP."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from atlasqueue import span_encoding
from atlasqueue.tracing import provider_from_environment
from atlasqueue_server import traces
from atlasqueue_server.rpc import spans
from tests.plugins.processes import ROOT, Processes
from tests.tracing.receiver import Receiver, Span
from tests.waiting import eventually

ERROR = 2
GO_MODULE = ROOT / "clients" / "go" / "otel"
# The first build on a machine compiles gRPC.
BUILD_S = 600


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """A receiver that every process started from now on exports to."""
    receiver = Receiver()
    await receiver.start()
    endpoint = f"http://127.0.0.1:{receiver.port}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    yield receiver
    await receiver.stop()


async def produce(address: str, queue: str = "media") -> str:
    """Runs the producer; the id of its job."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.tracing.produce", address, queue, cwd=ROOT, stdout=-1
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().split()[-1]


def parent_of(span: Span, spans: list[Span]) -> Span:
    """Its parent among the received ones."""
    (parent,) = [s for s in spans if s.id == span.parent]
    return parent


async def test_one_trace_from_producer_to_handler_and_a_link_from_each_attempt(
    processes: Processes, migrated_database_url: str, receiver: Receiver
) -> None:
    server = processes.server(migrated_database_url)
    worker = processes.worker("tests.tracing.apps:app", server.address, "--slots", "4")
    job_id = await produce(server.address)

    async def all_there() -> bool:
        counts = {
            name: len(receiver.named(name)) for name in ("scale", "plain work", "process media")
        }
        return counts == {"scale": 2, "plain work": 3, "process media": 6}

    await eventually(all_there)
    # In threads: what they export at the end is received in this one.
    for child in (worker, server):
        assert await asyncio.to_thread(child.stop) == 0
    (checkout,) = receiver.named("checkout")
    trace = checkout.trace
    ours = [s for s in receiver.spans if s.trace == trace]

    (enqueue,) = receiver.named("enqueue media", trace)
    assert (enqueue.service, enqueue.parent) == ("shop", checkout.id)
    assert enqueue.attributes["messaging.message.id"] == job_id
    (statement,) = receiver.named("enqueue_jobs_if_new", trace)
    commit = parent_of(statement, ours)
    rpc = parent_of(commit, ours)
    assert (statement.service, commit.name) == ("atlasqueue-server", "commit enqueue")
    assert (rpc.name, rpc.parent) == ("/atlasqueue.v1.JobService/Enqueue", enqueue.id)
    assert statement.attributes["db.system.name"] == "postgresql"

    runs = receiver.named("process media", trace)
    assert {r.service for r in runs} == {"atlasqueue-worker"}
    (again,) = [run for run in runs if "atlasqueue.delivery" in run.attributes]
    (failed,) = [run for run in runs if run is not again]
    counts = [again.attributes[f"atlasqueue.{name}"] for name in ("delivery", "attempt")]
    assert counts == [2, 1]
    for run in runs:
        assert (run.parent, run.links) == (enqueue.id, (enqueue.id,))
    assert {parent_of(s, ours).id for s in receiver.named("scale", trace)} == {r.id for r in runs}
    assert (failed.status, failed.attributes["error.type"]) == (ERROR, "ValueError")

    # Jobs that were enqueued together share the trace of their batch; plain handlers have spans as well.
    (bulk,) = receiver.named("bulk")
    assert len(receiver.named("process media", bulk.trace)) == 3
    theirs = [s for s in receiver.spans if s.trace == bulk.trace]
    assert {parent_of(s, theirs).name for s in receiver.named("plain work")} == {"process media"}
    (batch,) = receiver.named("enqueue media", bulk.trace)
    assert batch.attributes["messaging.batch.message_count"] == 3

    # A handler that makes no span of its own has one all the same.
    (unaware,) = receiver.named("unaware")
    (run,) = receiver.named("process media", unaware.trace)
    assert parent_of(run, receiver.spans).name == "enqueue media"

    names = {s.name for s in receiver.spans}
    assert not [n for n in names if n.endswith(("/Lease", "/WatchJob", "/Check"))]
    # What a handler raises of its own is in its own span; payloads and messages are in none of ours.
    mine = [s for s in receiver.spans if s.name not in ("scale", "plain work")]
    assert not [s.name for s in mine if "s3cret" in s.text]


def go_worker(directory: Path) -> Path:
    """The traced worker in Go, built."""
    if shutil.which("go") is None:
        pytest.skip("Go is not installed")
    program = directory / "traced"
    subprocess.run(
        ["go", "build", "-buildvcs=false", "-o", program, "./internal/cmd/traced"],
        cwd=GO_MODULE,
        env=os.environ | {"GOTOOLCHAIN": "auto"},
        timeout=BUILD_S,
        check=True,
    )
    return program


@pytest.mark.long
async def test_one_trace_from_python_through_go_to_python(
    processes: Processes, migrated_database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    program = await asyncio.to_thread(go_worker, tmp_path)
    server = processes.server(migrated_database_url)
    worker = processes.worker("tests.tracing.apps:app", server.address)
    in_go = await asyncio.create_subprocess_exec(
        program, env=os.environ | {"ATLASQUEUE_ADDRESS": server.address}, stdout=-1
    )
    try:
        await produce(server.address, "go")

        async def has_arrived() -> bool:
            return bool(receiver.named("plain work"))

        await eventually(has_arrived)
        in_go.terminate()
        printed, _ = await in_go.communicate()
    finally:
        if in_go.returncode is None:
            in_go.kill()
    for child in (worker, server):
        assert await asyncio.to_thread(child.stop) == 0
    (checkout,) = receiver.named("checkout")
    spans = [json.loads(line) for line in printed.splitlines()]
    first, second = (
        next(s for s in spans if (s["name"], s["trace"]) == (name, checkout.trace))
        for name in ("process go", "enqueue media")
    )
    (by_python,) = receiver.named("enqueue go", checkout.trace)
    assert (first["parent"], first["links"]) == (by_python.id, [by_python.id])
    assert second["parent"] == first["id"]
    (run,) = receiver.named("process media", checkout.trace)
    assert (run.parent, run.links) == (second["id"], (second["id"],))
    calls = receiver.named("/atlasqueue.v1.JobService/Enqueue", checkout.trace)
    assert {call.parent for call in calls} == {by_python.id, second["id"]}


async def test_what_is_exported_is_encoded_in_its_place(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter's method that is overridden for it is no public one: a later version may not call it."""
    encoded: list[str] = []

    def encode(batch: Sequence[Any]) -> Any:
        encoded.extend(span.name for span in batch)
        return span_encoding.encode_spans(batch)

    monkeypatch.setattr(span_encoding, "encode", encode)
    provider = provider_from_environment("shop")
    assert provider is not None
    for name in ("a", "b"):
        provider.get_tracer("tests").start_span(name).end()
    await asyncio.to_thread(provider.shutdown)
    assert encoded == [span.name for span in receiver.spans] == ["a", "b"]


async def test_nothing_is_traced_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert not traces.configure()
    handler: spans.Handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: None)
    assert await spans.dressed("/atlasqueue.v1.JobService/Enqueue", handler) is handler
    assert traces.recording() is None
    assert traces.statements(["ping"]) is traces.commit("report", 1, [])
