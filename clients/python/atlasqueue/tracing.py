"""Traces by OpenTelemetry, for programs that use it; the SDK itself does not depend on it.

enqueue is a span of kind PRODUCER. It travels two ways: with the call, so that the server's span of the
RPC is its child; and in the job's header `traceparent` (W3C Trace Context), so that the run of the job,
in whatever worker and at whatever attempt, belongs to the same trace. A span that is not sampled leaves
no header: jobs without headers are the cheapest.

Nothing is imported here that the program has not imported itself, so a program without OpenTelemetry pays
one look into sys.modules a call.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from atlasqueue.v1 import job_pb2

SYSTEM = "atlasqueue"
CARRIED = ("traceparent", "tracestate")
# What the contract allows a job.
HEADERS_MAX = 32
HEADERS_BYTES_MAX = 8 * 1024

Metadata = tuple[tuple[str, str], ...]


@contextmanager
def producing(
    jobs: Sequence[job_pb2.NewJob], count: int | None = None
) -> Iterator[Metadata | None]:
    """The span of an enqueue of these jobs, which get its header; yields metadata for the call.

    `count`: how many jobs they stand for, if one of them is what many share.
    """
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        yield None
        return
    from opentelemetry import propagate

    tracer = trace.get_tracer("atlasqueue")
    queues = {job.queue for job in jobs}
    name = f"enqueue {next(iter(queues))}" if len(queues) == 1 else "enqueue"
    with tracer.start_as_current_span(
        name, kind=trace.SpanKind.PRODUCER, attributes=_attributes(jobs, queues, count or len(jobs))
    ) as span:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        if span.get_span_context().trace_flags.sampled:
            carried = {key: carrier[key] for key in CARRIED if key in carrier}
            for job in jobs:
                if "traceparent" not in job.headers and _has_room(job.headers, carried):
                    job.headers.update(carried)
        yield tuple(carrier.items())


def _has_room(headers: Mapping[str, str], more: Mapping[str, str]) -> bool:
    """Whether both fit: a trace must not be why a job is refused."""
    if not headers:
        return True
    size = sum(
        len(key.encode()) + len(value.encode()) for key, value in (*headers.items(), *more.items())
    )
    return len(headers) + len(more) <= HEADERS_MAX and size <= HEADERS_BYTES_MAX


def _attributes(jobs: Sequence[job_pb2.NewJob], queues: set[str], count: int) -> dict[str, Any]:
    """By the semantic conventions for messaging."""
    attributes: dict[str, Any] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
    }
    if len(queues) == 1:
        attributes["messaging.destination.name"] = next(iter(queues))
    if count == 1:
        attributes["messaging.message.id"] = jobs[0].job_id
        attributes["atlasqueue.kind"] = jobs[0].kind
    else:
        attributes["messaging.batch.message_count"] = count
    return attributes


def provider_from_environment(service: str, environ: Mapping[str, str] = os.environ) -> Any | None:
    """A tracer provider that exports by OTLP as the OTEL_* variables say; None: they ask for none.

    Needs the packages opentelemetry-sdk and opentelemetry-exporter-otlp. Sampler, batches, resource and
    endpoint are read by them. Raises ImportError when they are missing.
    """
    if not asks_for_traces(environ):
        return None
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
    )
    exporter: SpanExporter
    if protocol.startswith("http"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

        exporter = Http()
    else:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        from atlasqueue.span_encoding import encode

        class InPlace(Grpc):
            """Encodes spans for less than half of what it takes the library; that of http has no place for it."""

            def _translate_data(self, data: Any) -> Any:
                return encode(data)

        exporter = InPlace()
    named = "OTEL_SERVICE_NAME" in environ or "service.name" in environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )

    class HashedOnce(Resource):
        """The exporter asks for the hash of each span's resource: a tenth of its work, if made each time."""

        def __init__(self, of: Resource) -> None:
            super().__init__(of.attributes, of.schema_url)
            self._hash = hash(of)

        def __hash__(self) -> int:
            return self._hash

    resource = HashedOnce(Resource.create({} if named else {SERVICE_NAME: service}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def asks_for_traces(environ: Mapping[str, str]) -> bool:
    """Whether the OTEL_* variables ask for traces: an endpoint is named, or the exporter otlp is."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if exporter := environ.get("OTEL_TRACES_EXPORTER"):
        return "otlp" in exporter
    return any(
        environ.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
