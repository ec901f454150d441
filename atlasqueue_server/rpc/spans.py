"""Spans of RPCs, by opentelemetry-instrumentation-grpc.

Its interceptor is applied to each handler once, when the server starts. In the list of the server's interceptors
it would be asked anew before each call, also of those that get no span. Long streams have none: they would never end,
and be exported when it is too late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc

from atlasqueue_server import traces

# Of no trace of their own, since each speaks of many jobs; within a trace of the caller they have spans.
TRACED_WITHIN: Final = frozenset({"Report", "Heartbeat", "LeaseOnce"})

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class _Details:
    """What the interceptor wants to know of a call: as grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: Sequence[tuple[str, str]] = ()


async def dressed(method: str, handler: Handler) -> Handler:
    """The handler of an RPC ("/package.Service/Method") with a span around its calls, if it gets one."""
    provider = traces.provider()
    if provider is None or handler.response_streaming:
        return handler
    from opentelemetry.instrumentation.grpc import aio_server_interceptor

    async def undressed(_call: _Details) -> Handler:
        return handler

    interceptor: Any = aio_server_interceptor
    spanned: Handler = await interceptor(provider).intercept_service(undressed, _Details(method))
    within = method.rpartition("/")[2] in TRACED_WITHIN
    return _dressed_within(handler, spanned) if within else spanned


def _dressed_within(plain: Handler, spanned: Handler) -> Handler:
    async def call(request: Any, context: Any) -> Any:
        within = any(key == "traceparent" for key, _ in context.invocation_metadata() or ())
        answer: Any = spanned.unary_unary if within else plain.unary_unary
        return await answer(request, context)

    return grpc.unary_unary_rpc_method_handler(
        call, plain.request_deserializer, plain.response_serializer
    )
