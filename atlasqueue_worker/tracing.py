"""The span of a run: in the trace of whoever enqueued the job, and linked to it, at every attempt.

    enqueue media (producer) ─┬─▶ process media (attempt 0)   each also links to the enqueue, which
                              └─▶ process media (attempt 1)   is what the conventions ask of messaging

Only jobs that carry a sampled `traceparent` get one; the others run in their handlers as they are.

The span itself is made late, with those of other runs (late_span.py), unless the handler looks at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable, Mapping
from time import time_ns
from typing import TYPE_CHECKING, Any

from atlasqueue.tracing import SYSTEM, provider_from_environment
from atlasqueue_worker.app import Handler
from atlasqueue_worker.job import JobContext
from atlasqueue_worker.outcomes import Cancel, Release, Snooze, error_name

if TYPE_CHECKING:
    from atlasqueue_worker.late_span import LateSpan

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
# Spans that wait to be made together, and how long.
UNMADE_MAX = 32
MAKE_S = 0.25


def configure() -> Callable[[], None] | None:
    """Traces as the OTEL_* variables ask; the function that ends it, or None. Raises ImportError."""
    provider = provider_from_environment("atlasqueue-worker")
    if provider is None:
        return None
    from opentelemetry import trace

    trace.set_tracer_provider(provider)
    end: Callable[[], None] = provider.shutdown
    return end


def runs() -> Runs | None:
    """What gives handlers their spans; None when this program has set up no tracer provider."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return Runs(trace.get_tracer("atlasqueue_worker"))


class Runs:
    """Makes the spans. Written out rather than by context managers, which doubled the price of a span."""

    def __init__(self, tracer: Any) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from atlasqueue_worker.late_span import LateSpan

        self._tracer = tracer
        self._trace = trace
        self._attach, self._detach = context.attach, context.detach
        self._root = context.Context()
        self._extract = TraceContextTextMapPropagator().extract
        self._late = LateSpan
        self._unmade: deque[LateSpan] = deque()

    def dress(self, handler: Handler, is_async: bool) -> Handler:
        """The handler with a span around its runs, for jobs that carry `traceparent`."""
        return self.asynchronous(handler) if is_async else self.plain(handler)

    def asynchronous(self, handler: Any) -> Handler:
        """An async handler with a span around its runs."""

        async def traced(job: JobContext) -> Any:
            span = self._late(job, self._start)
            token = self._attach(self._trace.set_span_in_context(span, self._root))
            try:
                return await handler(job)
            except Exception as error:
                span.error = _noted(error)
                raise
            finally:
                self._detach(token)
                self._end(span)

        return traced

    def plain(self, handler: Any) -> Handler:
        """A plain handler with a span around its runs."""

        def traced(job: JobContext) -> Any:
            span = self._late(job, self._start)
            token = self._attach(self._trace.set_span_in_context(span, self._root))
            try:
                return handler(job)
            except Exception as error:
                span.error = _noted(error)
                raise
            finally:
                self._detach(token)
                self._end(span)

        return traced

    def _end(self, span: LateSpan) -> None:
        span.ended = time_ns()
        if span.is_made:
            self._finish(span)
            return
        self._unmade.append(span)
        if len(self._unmade) >= UNMADE_MAX:
            self.make()

    def make(self) -> None:
        """Makes the spans of runs that have ended."""
        while self._unmade:
            # Plain handlers end in threads of their own.
            with contextlib.suppress(IndexError):
                self._finish(self._unmade.popleft())

    async def run(self) -> None:
        """Makes them before they are old, until it is cancelled, and then what is left."""
        try:
            while True:
                await asyncio.sleep(MAKE_S)
                self.make()
        finally:
            self.make()

    def _finish(self, late: LateSpan) -> None:
        span = late.made()
        if late.error is not None:
            span.set_attribute("error.type", late.error)
            span.set_status(self._trace.StatusCode.ERROR, late.error)
        span.end(late.ended)

    def _start(self, job: JobContext, began_ns: int) -> Any:
        trace = self._trace
        producer = self._producer(job.headers)
        sampled = producer.is_valid and producer.trace_flags.sampled
        return self._tracer.start_span(
            f"process {job.queue}",
            context=trace.set_span_in_context(trace.NonRecordingSpan(producer), self._root),
            kind=trace.SpanKind.CONSUMER,
            links=(trace.Link(producer),) if sampled else None,
            attributes=_attributes(job) if sampled else None,
            start_time=began_ns,
        )

    def _producer(self, headers: Mapping[str, str]) -> Any:
        """Who enqueued the job, as a SpanContext; an invalid one when the headers name nobody."""
        trace = self._trace
        if TRACESTATE not in headers and (ids := _usual(headers[TRACEPARENT])):
            return trace.SpanContext(ids[0], ids[1], True, trace.TraceFlags(ids[2]))
        return trace.get_current_span(self._extract(headers)).get_span_context()


def _noted(error: Exception) -> str | None:
    """The type alone: its message may hold what the payload held. None: no error, but an outcome."""
    return None if isinstance(error, Snooze | Release | Cancel) else error_name(error)


def _usual(traceparent: str) -> tuple[int, int, int] | None:
    """Trace, span and flags of a header as this version of the standard writes it; None: it is not such a one."""
    try:
        ids = int(traceparent[3:35], 16), int(traceparent[36:52], 16), int(traceparent[53:], 16)
    except ValueError:
        return None
    # int() takes more than the standard does: signs, spaces, capitals.
    written = "00-{:032x}-{:016x}-{:02x}".format(*ids)
    return ids if traceparent == written and min(ids) >= 0 else None


def _attributes(job: JobContext) -> dict[str, Any]:
    """Few, since each costs: a first run is told from others by its message id."""
    attributes: dict[str, Any] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": job.job_id,
        "atlasqueue.kind": job.kind,
    }
    if job.deliveries > 1:
        attributes["atlasqueue.delivery"] = job.deliveries
        attributes["atlasqueue.attempt"] = job.attempt
        attributes["atlasqueue.fence"] = job.fence
    return attributes
