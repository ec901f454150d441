"""The span of a run: in the trace of whoever enqueued the job, and linked to it, at every attempt.

    enqueue media (producer) ─┬─▶ process media (attempt 0)   each also links to the enqueue, which
                              └─▶ process media (attempt 1)   is what the conventions ask of messaging

Only jobs that carry a sampled `traceparent` get one; the others pay one look at their headers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from atlasqueue.tracing import SYSTEM, provider_from_environment
from atlasqueue_worker.app import Handler
from atlasqueue_worker.job import JobContext
from atlasqueue_worker.outcomes import Cancel, Release, Snooze

TRACEPARENT = "traceparent"


def configure() -> Callable[[], None] | None:
    """Traces as the OTEL_* variables ask; the function that ends it, or None. Raises ImportError."""
    provider = provider_from_environment("atlasqueue-worker")
    if provider is None:
        return None
    from opentelemetry import trace

    trace.set_tracer_provider(provider)
    end: Callable[[], None] = provider.shutdown
    return end


def dress() -> Callable[[Handler, bool], Handler] | None:
    """What gives handlers their spans; None when this program has set up no tracer provider."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    tracer = trace.get_tracer("atlasqueue_worker")

    def dressed(handler: Handler, is_async: bool) -> Handler:
        return _async(handler, tracer) if is_async else _plain(handler, tracer)

    return dressed


def _async(handler: Any, tracer: Any) -> Handler:
    async def within(job: JobContext) -> Any:
        with _span(tracer, job):
            return await handler(job)

    def traced(job: JobContext) -> Any:
        return within(job) if TRACEPARENT in job.headers else handler(job)

    return traced


def _plain(handler: Any, tracer: Any) -> Handler:
    def traced(job: JobContext) -> Any:
        if TRACEPARENT not in job.headers:
            return handler(job)
        with _span(tracer, job):
            return handler(job)

    return traced


@contextmanager
def _span(tracer: Any, job: JobContext) -> Iterator[None]:
    from opentelemetry.trace import Link, SpanKind, StatusCode, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = TraceContextTextMapPropagator().extract(job.headers)
    producer = get_current_span(context).get_span_context()
    with tracer.start_as_current_span(
        f"process {job.queue}",
        context=context,
        kind=SpanKind.CONSUMER,
        links=[Link(producer)] if producer.is_valid else [],
        attributes=_attributes(job),
        # Its message may hold what the payload held.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except (Snooze, Release, Cancel):
            raise
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise


def _attributes(job: JobContext) -> dict[str, Any]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": job.job_id,
        "atlasqueue.kind": job.kind,
        "atlasqueue.fence": job.fence,
        "atlasqueue.attempt": job.attempt,
        "atlasqueue.delivery": job.deliveries,
    }
