"""The span of a run is made late, but is the same span: times, parent, error, and what a handler does with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import time_ns
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from atlasqueue_worker import App, Cancel, JobContext, Release, Snooze, tracing
from atlasqueue_worker.executor import Executor
from atlasqueue_worker.testing import fake_job
from atlasqueue_worker.tracing import Runs
from tests.waiting import eventually_so

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced:
    """Runs handlers with spans."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("tests")
        self.runs = Runs(self.tracer)

    def spans(self) -> tuple[Any, ...]:
        """What was exported."""
        return self._exporter.get_finished_spans()

    def run(self, handler: Callable[[JobContext], object], count: int = 1) -> None:
        """Runs of a plain handler."""
        dressed = self.runs.plain(handler)
        for _ in range(count):
            dressed(fake_job("resize", headers={"traceparent": TRACEPARENT}))


@pytest.fixture
def traced() -> Traced:
    """A provider of its own for each test."""
    return Traced()


def nothing(_job: JobContext) -> None:
    """A handler that looks at no span."""


def test_a_span_that_nobody_looked_at_has_the_times_of_its_run(traced: Traced) -> None:
    before = time_ns()
    traced.run(nothing)
    after = time_ns()
    assert traced.spans() == ()
    traced.runs.make()
    (span,) = traced.spans()
    assert before <= span.start_time <= span.end_time <= after
    traced.runs.make()
    assert len(traced.spans()) == 1


def test_many_are_made_without_being_asked(traced: Traced) -> None:
    traced.run(nothing, tracing.UNMADE_MAX)
    assert len(traced.spans()) == tracing.UNMADE_MAX


def test_a_span_that_its_handler_looks_at_is_made_at_once(traced: Traced) -> None:
    def handler(_job: JobContext) -> None:
        span = trace.get_current_span()
        assert span.is_recording()
        span.set_attribute("a", 1)
        span.set_attributes({"b": 2})
        span.add_event("seen", {"c": 3})
        span.add_link(trace.SpanContext(1, 2, is_remote=False))
        span.update_name("resized")
        assert span.name == "resized"  # type: ignore[attr-defined]  # spans of the SDK have one
        with traced.tracer.start_as_current_span("scale"):
            pass

    traced.run(handler)
    scale, run = traced.spans()
    assert scale.parent == run.context
    assert (run.name, run.attributes["a"], run.attributes["b"]) == ("resized", 1, 2)
    assert (run.events[0].name, len(run.links)) == ("seen", 2)


@pytest.mark.parametrize("looks", [False, True])
def test_an_error_is_noted_by_its_type(traced: Traced, looks: bool) -> None:
    def handler(_job: JobContext) -> None:
        if looks:
            trace.get_current_span().record_exception(LookupError("mine"))
            trace.get_current_span().set_status(trace.StatusCode.UNSET)
        raise ValueError("s3cret")

    with pytest.raises(ValueError, match="s3cret"):
        traced.run(handler)
    traced.runs.make()
    (span,) = traced.spans()
    assert (span.attributes["error.type"], span.status.is_ok) == ("ValueError", False)
    assert [event.name for event in span.events] == ["exception"] * looks
    assert "s3cret" not in span.to_json()


@pytest.mark.parametrize("ending", [Snooze(1), Release(), Cancel()])
def test_an_outcome_that_is_no_failure_is_no_error(traced: Traced, ending: Exception) -> None:
    def handler(_job: JobContext) -> None:
        raise ending

    with pytest.raises(type(ending)):
        traced.run(handler)
    traced.runs.make()
    (span,) = traced.spans()
    assert "error.type" not in span.attributes


async def test_what_runs_after_a_run_is_not_in_its_span(traced: Traced) -> None:
    traced.run(nothing)
    assert trace.get_current_span() is trace.INVALID_SPAN

    async def coroutine(_job: JobContext) -> None:
        assert trace.get_current_span() is not trace.INVALID_SPAN

    dressed: Any = traced.runs.asynchronous(coroutine)
    await dressed(fake_job("resize", headers={"traceparent": TRACEPARENT}))
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_span_can_be_looked_at_after_its_run(traced: Traced) -> None:
    kept: list[trace.Span] = []
    traced.run(lambda _job: kept.append(trace.get_current_span()))
    context = kept[0].get_span_context()
    traced.runs.make()
    assert [span.context for span in traced.spans()] == [context]
    assert kept[0].get_span_context() == context


async def test_spans_are_made_in_time_and_at_the_end(traced: Traced) -> None:
    running = asyncio.create_task(traced.runs.run())
    traced.run(nothing)
    await eventually_so(lambda: len(traced.spans()) == 1)
    traced.run(nothing)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert len(traced.spans()) == 2


async def test_only_jobs_with_a_traceparent_have_spans(traced: Traced) -> None:
    app = App()
    ran: list[str] = []

    @app.job("resize")
    async def _(job: JobContext) -> None:
        ran.append(job.job_id)

    async def nothing_to_tell() -> None: ...

    reported: list[object] = []
    executor = Executor(
        app, 2, lambda *ended: reported.append(ended), nothing_to_tell, spans=traced.runs.dress
    )
    with_it = fake_job("resize", headers={"traceparent": TRACEPARENT})
    others = [fake_job("resize", fence=2), fake_job("resize", headers={"lang": "en"}, fence=3)]
    executor.start([others[0], with_it, others[1]])
    await eventually_so(lambda: len(reported) == 3)
    assert ran == [others[0].job_id, with_it.job_id, others[1].job_id]
    traced.runs.make()
    (span,) = traced.spans()
    assert span.attributes["messaging.message.id"] == with_it.job_id


@pytest.mark.parametrize("deliveries", [1, 2])
def test_a_span_says_which_run_it_is_from_the_second_on(traced: Traced, deliveries: int) -> None:
    job = fake_job(
        "resize", headers={"traceparent": TRACEPARENT}, deliveries=deliveries, attempt=1, fence=7
    )
    traced.runs.plain(nothing)(job)
    traced.runs.make()
    (span,) = traced.spans()
    ours = {key: span.attributes[key] for key in span.attributes if key.startswith("atlasqueue.")}
    again = {"atlasqueue.delivery": 2, "atlasqueue.attempt": 1, "atlasqueue.fence": 7}
    assert ours == {"atlasqueue.kind": "resize"} | (again if deliveries == 2 else {})
