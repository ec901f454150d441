"""The span of a run: in the trace of whoever enqueued the job, and linked to it, at every attempt.

    enqueue media (producer) ─┬─▶ process media (attempt 0)   each also links to the enqueue, which
                              └─▶ process media (attempt 1)   is what the conventions ask of messaging

Only jobs that carry a sampled `traceparent` get one; the others pay one look at their headers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from atlasqueue.tracing import SYSTEM, provider_from_environment
from atlasqueue_worker.app import Dress, Handler
from atlasqueue_worker.job import JobContext
from atlasqueue_worker.outcomes import Cancel, Release, Snooze, error_name

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


def dress() -> Dress | None:
    """What gives handlers their spans; None when this program has set up no tracer provider."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return Runs(trace.get_tracer("atlasqueue_worker")).dress


class Runs:
    """Makes the spans. Written out rather than by context managers, which doubled the price of a span."""

    def __init__(self, tracer: Any) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._trace = trace
        self._attach, self._detach = context.attach, context.detach
        self._extract = TraceContextTextMapPropagator().extract

    def dress(self, handler: Handler, is_async: bool) -> Handler:
        """The handler with a span around its runs."""
        return self.asynchronous(handler) if is_async else self.plain(handler)

    def asynchronous(self, handler: Any) -> Handler:
        """An async handler with a span around its runs."""

        async def within(job: JobContext) -> Any:
            span, token = self._begin(job)
            try:
                return await handler(job)
            except Exception as error:
                self._note(span, error)
                raise
            finally:
                self._detach(token)
                span.end()

        def traced(job: JobContext) -> Any:
            return within(job) if TRACEPARENT in job.headers else handler(job)

        return traced

    def plain(self, handler: Any) -> Handler:
        """A plain handler with a span around its runs."""

        def traced(job: JobContext) -> Any:
            if TRACEPARENT not in job.headers:
                return handler(job)
            span, token = self._begin(job)
            try:
                return handler(job)
            except Exception as error:
                self._note(span, error)
                raise
            finally:
                self._detach(token)
                span.end()

        return traced

    def _begin(self, job: JobContext) -> tuple[Any, Any]:
        trace = self._trace
        context = self._extract(job.headers)
        producer = trace.get_current_span(context).get_span_context()
        sampled = producer.trace_flags.sampled
        span = self._tracer.start_span(
            f"process {job.queue}",
            context=context,
            kind=trace.SpanKind.CONSUMER,
            links=[trace.Link(producer)] if sampled else None,
            attributes=_attributes(job) if sampled else None,
        )
        return span, self._attach(trace.set_span_in_context(span, context))

    def _note(self, span: Any, error: Exception) -> None:
        """The type alone: its message may hold what the payload held."""
        if not isinstance(error, Snooze | Release | Cancel):
            name = error_name(error)
            span.set_attribute("error.type", name)
            span.set_status(self._trace.StatusCode.ERROR, name)


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
