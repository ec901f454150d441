"""Run times and spans are around everything that is called for a job: middleware, threads, subprocesses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from atlasqueue_server import traces
from atlasqueue_worker import App, JobContext, Next, WorkerMetrics
from atlasqueue_worker.handlers import prepared
from atlasqueue_worker.testing import fake_job
from atlasqueue_worker.tracing import Runs
from tests.worker import isolated_app

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Where plain handlers run."""
    with ThreadPoolExecutor(1) as threads:
        yield threads


def dressed_app() -> App:
    """Middleware around a plain handler, a coroutine, and one in a subprocess that raises KeyError."""
    app = App("tests.worker.isolated_app:app")

    @app.middleware
    async def around(job: JobContext, run: Next) -> object:
        return await run(job)

    @app.job("plain", queue=isolated_app.QUEUE)
    def plain(job: JobContext) -> None:
        raise KeyError("no such thing")

    @app.job("async", queue=isolated_app.QUEUE)
    async def coroutine(job: JobContext) -> None:
        raise KeyError("no such thing")

    app.job("end", queue=isolated_app.QUEUE, subprocess=True)(isolated_app.end)
    return app


@pytest.mark.parametrize("kind", ["plain", "async", "end"])
async def test_a_run_is_timed_and_traced(kind: str, threads: ThreadPoolExecutor) -> None:
    """How it showed: a failure in a subprocess had error.type Retry, not what the handler raised."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runs = Runs(provider.get_tracer("tests"))
    metrics = WorkerMetrics()
    registration = prepared(dressed_app(), threads, [metrics.timed, runs.dress])[kind]
    job = fake_job(kind, b"raise", queue=isolated_app.QUEUE, headers={"traceparent": TRACEPARENT})
    assert registration.is_async
    handler: Any = registration.handler
    with pytest.raises(Exception, match="no such thing"):
        await handler(job)
    runs.make()
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert (span.name, span.attributes["error.type"]) == ("process isolated", "KeyError")
    assert "no such thing" not in span.to_json()
    labels = {"queue": isolated_app.QUEUE, "kind": kind}
    name = "atlasqueue_worker_job_run_seconds_count"
    assert metrics.registry.get_sample_value(name, labels) == 1


def test_a_failed_statement_shows_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """How it showed: the status of the span held PostgreSQL's message, "Failing row contains (…)"."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    monkeypatch.setattr(traces, "_tracer", tracer)
    monkeypatch.setattr(traces, "_context", get_current)
    row = "Failing row contains (s3cret)."
    with tracer.start_as_current_span("call", record_exception=False) as call:
        for span in (
            traces.statements(["enqueue_jobs_if_new"]),
            traces.commit("enqueue", 1, [call]),
        ):
            with pytest.raises(ValueError, match="s3cret"), span:
                raise ValueError(row)
    statement, commit, _ = exporter.get_finished_spans()
    for each in (statement, commit):
        assert each.attributes is not None
        assert (each.attributes["error.type"], each.status.is_ok) == ("ValueError", False)
        assert "s3cret" not in each.to_json()
