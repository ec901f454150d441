"""Spans as a message of OTLP, each written in its place: what the library's encoder says, for less than half of the work.

That encoder, of opentelemetry-exporter-otlp-proto-common, makes each nested message by itself and copies it into the
one around it. Here only the usual span is written, and all else is the library's own:

    resources, scopes, the first span of each scope      as it made them
    spans with events, sequences, trace state, …         as it made them, copied
    a first span that it writes otherwise                the whole batch: this is another version of it

It imports OpenTelemetry, so it is imported only by who exports spans (tracing.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind

_KINDS = {kind: trace_pb2.Span.SpanKind.Value(f"SPAN_KIND_{kind.name}") for kind in SpanKind}
_LOCAL = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = _LOCAL | trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


def encode(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """The same message as the library's `encode_spans`, in the same order."""
    groups = _groups(spans)
    request = encode_spans([group[0] for group in groups])
    unusual = []
    for scope, (first, *others) in zip(_scopes(request), groups, strict=True):
        written = trace_pb2.Span()
        if _wrote(first, written) and written != scope.spans[0]:
            return encode_spans(spans)
        for span in others:
            message = scope.spans.add()
            if not _wrote(span, message):
                unusual.append((span, message))
    theirs = encode_spans([span for span, _ in unusual])
    copies = (span for scope in _scopes(theirs) for span in scope.spans)
    for (_, message), copy in zip(unusual, copies, strict=True):
        message.CopyFrom(copy)
    return request


def _groups(spans: Sequence[ReadableSpan]) -> list[list[ReadableSpan]]:
    """By resource and scope, in the order in which the library has them: that of their first spans."""
    resources: dict[Any, dict[Any, list[ReadableSpan]]] = {}
    for span in spans:
        scopes = resources.setdefault(span.resource, {})
        scopes.setdefault(span.instrumentation_scope, []).append(span)
    return [group for scopes in resources.values() for group in scopes.values()]


def _scopes(request: ExportTraceServiceRequest) -> Iterator[trace_pb2.ScopeSpans]:
    return (scope for resource in request.resource_spans for scope in resource.scope_spans)


def _wrote(span: ReadableSpan, message: trace_pb2.Span) -> bool:
    """Writes a usual span. False: it is none, and what the message holds by then is to be written over."""
    try:
        return (
            not (span.events or span.dropped_events or span.dropped_attributes)
            and _wrote_attributes(span, message)
            and _wrote_links(span, message)
            and _wrote_fields(span, message)
        )
    except Exception:
        # What no field takes: the library knows what to make of it, or who is to hear.
        return False


def _wrote_fields(span: ReadableSpan, message: trace_pb2.Span) -> bool:
    context: Any = span.get_span_context()
    parent, status = span.parent, span.status
    if context.trace_state:
        return False
    message.trace_id = context.trace_id.to_bytes(16, "big")
    message.span_id = context.span_id.to_bytes(8, "big")
    if parent:
        message.parent_span_id = parent.span_id.to_bytes(8, "big")
    message.flags = _flags(parent)
    message.name = span.name
    message.kind = _KINDS[span.kind]
    message.start_time_unix_nano = span.start_time  # type: ignore[assignment]
    message.end_time_unix_nano = span.end_time  # type: ignore[assignment]
    message.status.code = status.status_code.value  # type: ignore[assignment]
    if status.description is not None:
        message.status.message = status.description
    return True


def _flags(of: SpanContext | None) -> int:
    return _REMOTE if of and of.is_remote else _LOCAL


def _wrote_attributes(span: ReadableSpan, message: trace_pb2.Span) -> bool:
    attributes: Any = span.attributes
    add = message.attributes.add
    # A copy: the SDK's mapping looks up each of its items by a call.
    for key, value in attributes.copy().items():
        # No subclasses: True is an int, too.
        kind = type(value)
        if kind is str:
            add(key=key).value.string_value = value
        elif kind is bool:
            add(key=key).value.bool_value = value
        elif kind is int:
            add(key=key).value.int_value = value
        elif kind is float:
            add(key=key).value.double_value = value
        else:
            return False
    return True


def _wrote_links(span: ReadableSpan, message: trace_pb2.Span) -> bool:
    for each in span.links:
        if each.attributes or each.dropped_attributes:
            return False
        link = message.links.add()
        link.trace_id = each.context.trace_id.to_bytes(16, "big")
        link.span_id = each.context.span_id.to_bytes(8, "big")
        link.flags = _flags(each.context)
    return not span.dropped_links
