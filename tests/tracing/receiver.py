"""An OTLP receiver in the test's own process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Span:
    """A received span."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    attributes: dict[str, Any]
    status: int
    text: str


@dataclass
class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it gets."""

    spans: list[Span] = field(default_factory=list)
    port: int = 0
    _server: Any = None

    async def start(self) -> None:
        """Listens on any free port."""
        self._server = grpc.aio.server()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        """Stops."""
        await self._server.stop(1)

    async def Export(self, request: Any, _context: Any) -> Any:
        """Takes spans."""
        for of_resource in request.resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            for scope in of_resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(_span(str(resource["service.name"]), span))
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str, trace: str | None = None) -> list[Span]:
        """The spans of this name, in one trace if it is given."""
        return [s for s in self.spans if s.name == name and trace in (None, s.trace)]


def _span(service: str, span: Any) -> Span:
    links = tuple(link.span_id.hex() for link in span.links)
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    attributes = _attributes(span.attributes)
    return Span(service, span.name, *ids, links, attributes, span.status.code, str(span))


def _attributes(pairs: Any) -> dict[str, Any]:
    return {p.key: getattr(p.value, p.value.WhichOneof("value")) for p in pairs}
