"""`Rpc`: one RPC of a service bound to the method that handles it, free of any transport.

gRPC and REST both call this, so that the gate, errors and metrics exist once.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, cast

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.code_pb2 import Code

from atlasqueue_server.metrics import Metrics
from atlasqueue_server.model.errors import MalformedMessage
from atlasqueue_server.rpc.errors import RpcFailure, to_status


class Gate(Protocol):
    """Called with the name of the RPC ("Enqueue") before each call; raises to refuse it."""

    def __call__(self, rpc: str, /) -> None: ...


def open_gate(_rpc: str, /) -> None:
    """The gate that refuses nothing."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """One bound RPC. `unary` and `stream` raise RpcFailure, and CancelledError as it comes."""

    descriptor: MethodDescriptor
    request_class: type[Message]
    response_class: type[Message]
    function: Callable[[Any], Any]
    gate: Gate
    metrics: Metrics
    # Service and method, as in "JobService/Enqueue".
    name: str

    async def unary(self, request: Message | MalformedMessage, transport: str) -> Message:
        """Answer one request. Raises RpcFailure."""
        with _Observed(self, transport):
            call = cast(Callable[[Message], Awaitable[Message]], self.function)
            return self._checked(await call(self._admitted(request)))

    async def stream(
        self, request: Message | MalformedMessage, transport: str
    ) -> AsyncGenerator[Message, None]:
        """Yield the events of a server stream. Close it (`aclosing`) to end the handler at once."""
        with _Observed(self, transport):
            call = cast(Callable[[Message], AsyncGenerator[Message, None]], self.function)
            async with aclosing(call(self._admitted(request))) as events:
                async for event in events:
                    yield self._checked(event)

    def refused(self, transport: str, code: int) -> None:
        """Count a request that no message could be made of; `code` is a gRPC code."""
        self.metrics.rpc_refused(self.name, transport, str(Code.Name(code)))

    def _admitted(self, request: Message | MalformedMessage) -> Message:
        self.gate(self.descriptor.name)
        if isinstance(request, MalformedMessage):
            raise request
        return request

    def _checked(self, response: Message) -> Message:
        if not isinstance(response, self.response_class):
            raise TypeError(f"{self.name} answered {type(response).__name__}")
        return response


class _Observed:
    """Counts a call around its handler, and says RpcFailure for what the handler raised.

    A class, since every call would pay for a generator as context manager.
    """

    __slots__ = ("_rpc", "_started", "_transport")

    def __init__(self, rpc: Rpc, transport: str) -> None:
        self._rpc = rpc
        self._transport = transport

    def __enter__(self) -> None:
        self._started = time.perf_counter()
        self._rpc.metrics.rpc_started(self._rpc.name)

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._ended("OK")
        elif isinstance(error, Exception):
            status = to_status(error, rpc=self._rpc.name)
            self._ended(str(Code.Name(status.code)))
            raise RpcFailure(status) from error
        else:
            self._ended("CANCELLED")

    def _ended(self, code: str) -> None:
        unary = not self._rpc.descriptor.server_streaming
        seconds = time.perf_counter() - self._started if unary else None
        self._rpc.metrics.rpc_ended(self._rpc.name, self._transport, code, seconds)


def bind(
    service: ServiceDescriptor, handler: object, metrics: Metrics, gate: Gate = open_gate
) -> list[Rpc]:
    """Bind every RPC of `service` to the method of `handler` with its name in snake_case.

    Raises:
        TypeError: a method is missing, or an RPC streams its requests.
    """
    return [_bind_one(method, handler, metrics, gate) for method in service.methods]


def _bind_one(method: MethodDescriptor, handler: object, metrics: Metrics, gate: Gate) -> Rpc:
    if method.client_streaming:
        raise TypeError(f"{method.full_name} streams requests, which no handler does here")
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", method.name).lower()
    function = getattr(handler, name, None)
    if not callable(function):
        raise TypeError(f"{type(handler).__name__} has no method {name} for {method.full_name}")
    return Rpc(
        descriptor=method,
        request_class=GetMessageClass(method.input_type),
        response_class=GetMessageClass(method.output_type),
        function=function,
        gate=gate,
        metrics=metrics,
        name=f"{method.containing_service.name}/{method.name}",
    )
