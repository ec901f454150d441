"""Bound RPCs without any transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from atlasqueue.v1 import job_service_pb2 as jobs_pb
from atlasqueue_server.metrics import Metrics
from tests.rpc.fakes import Handlers, bound


async def test_closing_a_stream_has_ended_its_handler_when_it_returns() -> None:
    handlers, metrics = Handlers(), Metrics("test")

    async def events(_request: Any) -> AsyncIterator[Any]:
        yield jobs_pb.WatchJobResponse()
        await asyncio.Event().wait()

    handlers.events = events
    [watch] = [rpc for rpc in bound(handlers, metrics=metrics) if rpc.descriptor.name == "WatchJob"]
    stream = watch.stream(jobs_pb.WatchJobRequest(), "test")
    assert await anext(stream) == jobs_pb.WatchJobResponse()
    await stream.aclose()
    assert handlers.closed.is_set()
    labels = {"transport": "test", "rpc": "JobService/WatchJob", "code": "CANCELLED"}
    assert metrics.registry.get_sample_value("atlasqueue_rpc_calls_total", labels) == 1


async def test_a_cancelled_call_stays_cancelled() -> None:
    handlers = Handlers()

    async def hang(_request: Any) -> Any:
        await asyncio.Event().wait()

    handlers.replies["get_job"] = hang
    [rpc] = [rpc for rpc in bound(handlers) if rpc.descriptor.name == "GetJob"]
    call = asyncio.create_task(rpc.unary(jobs_pb.GetJobRequest(), "test"))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
