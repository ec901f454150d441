"""Handlers that answer without a database, and what is needed to serve them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from atlasqueue.v1 import job_service_pb2 as jobs_pb
from atlasqueue.v1 import queue_service_pb2 as queues_pb
from atlasqueue.v1 import worker_service_pb2 as workers_pb
from atlasqueue_server.metrics import Metrics
from atlasqueue_server.rpc.binding import Gate, Rpc, bind, open_gate

JOBS = jobs_pb.DESCRIPTOR.services_by_name["JobService"]
QUEUES = queues_pb.DESCRIPTOR.services_by_name["QueueService"]
WORKERS = workers_pb.DESCRIPTOR.services_by_name["WorkerService"]

Reply = Callable[[Any], Awaitable[Any]]


class Handlers:
    """Answers every RPC with an empty message; `replies` overrides that by method name.

    `requests` keeps what arrived, `closed` is set when the handler of a stream has ended.
    """

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.replies: dict[str, Reply] = {}
        self.events: Callable[[Any], AsyncIterator[Any]] | None = None
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        for service in (JOBS, QUEUES, WORKERS):
            for rpc in method_names(service):
                if rpc == name:
                    return self._stream if name in ("watch_job", "lease") else self._unary(name)
        raise AttributeError(name)

    def _unary(self, name: str) -> Reply:
        async def call(request: Any) -> Any:
            self.requests.append(request)
            if name in self.replies:
                return await self.replies[name](request)
            answer = type(request).__name__.removesuffix("Request") + "Response"
            module = next(m for m in (jobs_pb, queues_pb, workers_pb) if hasattr(m, answer))
            return getattr(module, answer)()

        return call

    async def _stream(self, request: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        self.opened.set()
        try:
            if self.events is not None:
                async for event in self.events(request):
                    yield event
        finally:
            self.closed.set()


def method_names(service: Any) -> list[str]:
    """The names that handlers of `service` give their methods."""
    names = []
    for method in service.methods:
        words = "".join(f" {c.lower()}" if c.isupper() else c for c in method.name).split()
        names.append("_".join(words))
    return names


def bound(handlers: object, gate: Gate = open_gate, metrics: Metrics | None = None) -> list[Rpc]:
    """All three services, bound to `handlers`."""
    metrics = metrics or Metrics("test")
    return [
        rpc for service in (JOBS, QUEUES, WORKERS) for rpc in bind(service, handlers, metrics, gate)
    ]


async def yes() -> bool:
    """A probe of a healthy database."""
    return True
