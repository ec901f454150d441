"""The parent of a run, read from the job's headers as OpenTelemetry's own propagator reads it."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from atlasqueue_worker.testing import fake_job
from atlasqueue_worker.tracing import Runs

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
USUAL = f"00-{TRACE}-{SPAN}-01"
HEADERS = [
    {"traceparent": USUAL},
    {"traceparent": f"00-{TRACE}-{SPAN}-00"},
    {"traceparent": f"00-{TRACE}-{SPAN}-03"},
    {"traceparent": USUAL, "tracestate": "shop=1"},
    {"traceparent": f" {USUAL} "},
    {"traceparent": f"01-{TRACE}-{SPAN}-01-more"},
    {"traceparent": f"00-{TRACE}-{SPAN}-01-more"},
    {"traceparent": f"ff-{TRACE}-{SPAN}-01"},
    {"traceparent": USUAL.upper()},
    {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
    {"traceparent": f"00-{TRACE}-{'0' * 16}-01"},
    {"traceparent": f"00--{TRACE[1:]}-{SPAN}-01"},
    {"traceparent": f"00-{TRACE}-+{SPAN[1:]}-01"},
    {"traceparent": f"00-{TRACE}-{SPAN}- 1"},
    {"traceparent": f"00-{TRACE}-{SPAN}--1"},
    {"traceparent": f"00-{TRACE}-{SPAN}"},
    {"traceparent": ""},
    {"traceparent": "nonsense"},
]


@pytest.mark.parametrize("headers", HEADERS, ids=str)
def test_the_parent_is_who_the_propagator_finds(headers: dict[str, str]) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_ON)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runs = Runs(provider.get_tracer("tests"))
    runs.plain(lambda _job: None)(fake_job("resize", headers=headers))
    runs.make()
    extracted = TraceContextTextMapPropagator().extract(headers)
    producer = trace.get_current_span(extracted).get_span_context()
    (span,) = exporter.get_finished_spans()
    assert span.parent == (producer if producer.is_valid else None)
    assert span.parent is None or span.parent.is_remote
    linked = producer.is_valid and producer.trace_flags.sampled
    assert [link.context for link in span.links] == ([producer] if linked else [])
