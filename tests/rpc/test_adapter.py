"""The adapter over real channels: every answer has a code and a reason, and nothing leaks."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import weakref
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar, cast

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from structlog.testing import capture_logs

from atlasqueue.v1 import job_pb2, job_service_pb2_grpc, worker_service_pb2_grpc
from atlasqueue.v1 import job_service_pb2 as jobs_pb
from atlasqueue.v1 import worker_service_pb2 as workers_pb
from atlasqueue_server.metrics import Metrics
from atlasqueue_server.model import errors, limits
from atlasqueue_server.rpc import adapter
from atlasqueue_server.rpc.binding import Gate, bind, open_gate
from atlasqueue_server.rpc.errors import ANSWERS, DOMAIN
from atlasqueue_server.rpc.server import GrpcOptions, GrpcServer
from tests.rpc.fakes import JOBS, Handlers, bound, yes

ALL_ERRORS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type)
    and issubclass(error, errors.AtlasQueueError)
    and error not in (errors.AtlasQueueError, errors.Unavailable, errors.InvalidField)
]


@asynccontextmanager
async def serving(
    handlers: object,
    *,
    gate: Gate = open_gate,
    metrics: Metrics | None = None,
    options: GrpcOptions | None = None,
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server of `handlers`."""
    metrics = metrics or Metrics("test")
    server = GrpcServer(
        bound(handlers, gate, metrics), yes, metrics, options=options or GrpcOptions()
    )
    port = await server.start("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)


def details(error: grpc.aio.AioRpcError) -> Status:
    """The google.rpc.Status that came with an error."""
    metadata = dict(error.trailing_metadata() or ())
    return Status.FromString(metadata["grpc-status-details-bin"])


def unpack(status: Status, kind: Any) -> Any:
    """The detail of type `kind`, or None."""
    found = kind()
    return next((found for detail in status.details if detail.Unpack(found)), None)


async def failing_enqueue(error: BaseException) -> grpc.aio.AioRpcError:
    """What a client sees when Enqueue raises `error`."""
    handlers = Handlers()

    async def fail(_request: Any) -> Any:
        raise error

    handlers.replies["enqueue"] = fail
    async with serving(handlers) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await job_service_pb2_grpc.JobServiceStub(channel).Enqueue(jobs_pb.EnqueueRequest())
    return caught.value


async def test_unary_call_reaches_the_method_and_its_answer_comes_back() -> None:
    handlers = Handlers()

    async def enqueue(request: jobs_pb.EnqueueRequest) -> jobs_pb.EnqueueResponse:
        return jobs_pb.EnqueueResponse(queue=request.job.queue, job_id="an id")

    handlers.replies["enqueue"] = enqueue
    async with serving(handlers) as channel:
        answer = await job_service_pb2_grpc.JobServiceStub(channel).Enqueue(
            jobs_pb.EnqueueRequest(job=job_pb2.NewJob(queue="media"))
        )
    assert answer == jobs_pb.EnqueueResponse(queue="media", job_id="an id")


@pytest.mark.parametrize("kind", ALL_ERRORS, ids=lambda kind: kind.__name__)
async def test_every_error_has_its_code_reason_and_message(
    kind: type[errors.AtlasQueueError],
) -> None:
    seen = await failing_enqueue(kind("what happened"))
    assert seen.code() == ANSWERS[kind.reason].code
    assert seen.details() == "what happened"
    info = unpack(details(seen), ErrorInfo)
    assert (info.reason, info.domain) == (kind.reason, DOMAIN)


def test_the_table_has_exactly_the_reasons_of_the_contract_and_its_codes() -> None:
    from pathlib import Path

    proto = Path(__file__).parents[2] / "proto/atlasqueue/v1/errors.proto"
    written = re.findall(
        r"  // ([A-Z_]+)\.(?:[^=]|\n)*?  ERROR_REASON_([A-Z_]+) = \d+;", proto.read_text()
    )
    quoted = {reason: code for code, reason in written if reason != "UNSPECIFIED"}
    assert quoted == {reason: answer.code.name for reason, answer in ANSWERS.items()}


async def test_invalid_field_names_each_field_and_bound() -> None:
    seen = await failing_enqueue(
        errors.InvalidField([errors.Violation("job.queue", "1 to 128 characters")])
    )
    assert seen.code() == grpc.StatusCode.INVALID_ARGUMENT
    [violation] = unpack(details(seen), BadRequest).field_violations
    assert (violation.field, violation.description) == ("job.queue", "1 to 128 characters")


async def test_an_error_too_large_for_trailers_is_cut_and_keeps_its_reason() -> None:
    many = [errors.Violation("é" * 10_000, "🧺" * 10_000) for _ in range(1000)]
    seen = await failing_enqueue(errors.InvalidField(many))
    assert seen.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert unpack(details(seen), ErrorInfo).reason == "INVALID_FIELD"


async def test_unavailable_says_when_to_repeat() -> None:
    seen = await failing_enqueue(errors.DatabaseUnavailable("the database does not answer"))
    assert unpack(details(seen), RetryInfo).retry_delay.seconds == 1


async def test_a_bug_is_internal_with_an_id_and_without_a_word_of_it() -> None:
    with capture_logs() as logs:
        seen = await failing_enqueue(RuntimeError("SELECT secret FROM atlasqueue.jobs"))
    assert seen.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(details(seen))
    info = unpack(details(seen), ErrorInfo)
    assert info.reason == "INTERNAL"
    [logged] = [entry for entry in logs if entry["event"] == "internal error"]
    assert logged["incident"] == info.metadata["incident"]
    assert logged["incident"] in (seen.details() or "")
    assert logged["rpc"] == "JobService/Enqueue"
    assert "secret" in str(logged["exc_info"])


async def test_an_answer_of_the_wrong_type_is_internal() -> None:
    handlers = Handlers()

    async def wrong(_request: Any) -> Any:
        return None

    handlers.replies["enqueue"] = wrong
    async with serving(handlers) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await job_service_pb2_grpc.JobServiceStub(channel).Enqueue(jobs_pb.EnqueueRequest())
    assert caught.value.code() == grpc.StatusCode.INTERNAL


@pytest.mark.parametrize(
    "wire",
    [b"\xff\xff\xff\xff", b"\x0a\x7f", b"\x0a\x04\x0a\x02\xc3\x28"],
    ids=["no tag", "cut short", "not utf-8"],
)
@pytest.mark.parametrize("method", ["JobService/Enqueue", "WorkerService/Lease"])
async def test_bytes_that_are_no_message_are_malformed(wire: bytes, method: str) -> None:
    handlers = Handlers()
    if method == "WorkerService/Lease" and len(wire) == 6:
        wire = b"\x0a\x02\xc3\x28"
    async with serving(handlers) as channel:
        call: Any = channel.unary_unary(f"/atlasqueue.v1.{method}")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(wire)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert unpack(details(caught.value), ErrorInfo).reason == "MALFORMED_MESSAGE"
    assert handlers.requests == []


class _Tracked:
    """A message of which one can see when it is gone."""

    alive: ClassVar[weakref.WeakSet[_Tracked]] = weakref.WeakSet()

    @classmethod
    def FromString(cls, data: bytes) -> _Tracked:
        """As of messages."""
        message = cls()
        cls.alive.add(message)
        return message


@pytest.mark.parametrize("method", ["JobService/Enqueue", "JobService/WatchJob"])
async def test_a_refused_message_is_gone_before_its_answer_is_sent(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """How it showed: ten calls of 4 MiB of empty items each, and the server had 3 GB: all ten were kept as
    messages until their answers were sent."""
    handlers = Handlers()
    kept: list[int] = []

    async def refuse(_request: Any) -> Any:
        raise errors.InvalidField.of("jobs", "must hold 1 to 10000 items")
        yield

    async def enqueue(request: Any) -> Any:
        async for _ in refuse(request):
            pass

    abort = adapter._abort

    async def watched(context: Any, status: Status) -> None:
        kept.append(len(_Tracked.alive))
        await abort(context, status)

    handlers.replies["enqueue"], handlers.events = enqueue, refuse
    handlers.requests = cast(Any, deque(maxlen=0))
    monkeypatch.setattr(adapter, "_abort", watched)
    rpcs = [dataclasses.replace(rpc, request_class=_Tracked) for rpc in bound(handlers)]
    server = GrpcServer(rpcs, yes, Metrics("test"))
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(f"/atlasqueue.v1.{method}")
        with pytest.raises(grpc.aio.AioRpcError, match="10000 items"):
            await call(b"")
    await server.stop(0)
    assert kept == [0]


async def test_a_message_over_the_limit_is_refused_by_the_transport() -> None:
    handlers = Handlers()
    job = job_pb2.NewJob(payload=bytes(limits.MESSAGE_BYTES_MAX))
    async with serving(handlers) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await job_service_pb2_grpc.JobServiceStub(channel).Enqueue(
                jobs_pb.EnqueueRequest(job=job)
            )
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert handlers.requests == []


async def test_the_gate_refuses_the_rpcs_it_names() -> None:
    def gate(rpc: str, /) -> None:
        if rpc == "Enqueue":
            raise errors.ShuttingDown("this server is draining")

    handlers = Handlers()
    async with serving(handlers, gate=gate) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Enqueue(jobs_pb.EnqueueRequest())
        await stub.GetJob(jobs_pb.GetJobRequest())
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert unpack(details(caught.value), ErrorInfo).reason == "SHUTTING_DOWN"
    assert handlers.requests == [jobs_pb.GetJobRequest()]


async def test_a_cancelled_call_leaves_shielded_work_alone() -> None:
    handlers = Handlers()
    started, committed, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    cancelled = asyncio.Event()
    flushes: set[asyncio.Task[None]] = set()

    async def flush() -> None:
        started.set()
        await go.wait()
        committed.set()

    async def enqueue(_request: Any) -> Any:
        task = asyncio.create_task(flush())
        flushes.add(task)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    handlers.replies["enqueue"] = enqueue
    async with serving(handlers) as channel:
        call = job_service_pb2_grpc.JobServiceStub(channel).Enqueue(jobs_pb.EnqueueRequest())
        await asyncio.wait_for(started.wait(), 5)
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)
        go.set()
        await asyncio.wait_for(committed.wait(), 5)


async def test_a_stream_carries_its_events_and_ends() -> None:
    handlers = Handlers()

    async def events(_request: Any) -> AsyncIterator[Any]:
        for number in range(3):
            yield workers_pb.LeaseResponse(
                session_opened=workers_pb.SessionOpened(session_id=number)
            )

    handlers.events = events
    async with serving(handlers) as channel:
        stream = worker_service_pb2_grpc.WorkerServiceStub(channel).Lease(workers_pb.LeaseRequest())
        assert [event.session_opened.session_id async for event in stream] == [0, 1, 2]
    assert handlers.closed.is_set()


async def test_a_stream_that_fails_midway_says_why() -> None:
    handlers = Handlers()

    async def events(_request: Any) -> AsyncIterator[Any]:
        yield workers_pb.LeaseResponse(ping=workers_pb.Ping())
        raise errors.SessionSuperseded("a higher epoch was opened")

    handlers.events = events
    seen = []
    async with serving(handlers) as channel:
        stream = worker_service_pb2_grpc.WorkerServiceStub(channel).Lease(workers_pb.LeaseRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for event in stream:
                seen.append(event)
    assert len(seen) == 1
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert unpack(details(caught.value), ErrorInfo).reason == "SESSION_SUPERSEDED"


async def test_the_handler_of_a_stream_ends_when_its_client_goes() -> None:
    handlers = Handlers()

    async def events(_request: Any) -> AsyncIterator[Any]:
        yield workers_pb.LeaseResponse(ping=workers_pb.Ping())
        await asyncio.Event().wait()

    handlers.events = events
    async with serving(handlers) as channel:
        stream = worker_service_pb2_grpc.WorkerServiceStub(channel).Lease(workers_pb.LeaseRequest())
        await stream.read()
        stream.cancel()
        await asyncio.wait_for(handlers.closed.wait(), 5)


async def test_a_client_that_does_not_read_loses_its_stream() -> None:
    handlers = Handlers()
    block = job_pb2.NewJob(payload=bytes(1 << 20)).SerializeToString()

    async def events(_request: Any) -> AsyncIterator[Any]:
        while True:
            yield workers_pb.LeaseResponse(
                leased_jobs=workers_pb.LeasedJobs(jobs=[workers_pb.LeasedJob(payload=block)])
            )

    handlers.events = events
    async with serving(handlers, options=GrpcOptions(write_timeout_s=0.2)) as channel:
        stream = worker_service_pb2_grpc.WorkerServiceStub(channel).Lease(workers_pb.LeaseRequest())
        await stream.read()
        await asyncio.wait_for(handlers.closed.wait(), 5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await asyncio.wait_for(stream.read(), 5):
                pass
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert unpack(details(caught.value), ErrorInfo).reason == "OVERLOADED"


async def test_calls_are_counted_by_transport_and_code() -> None:
    metrics, handlers = Metrics("test"), Handlers()

    async def fail(_request: Any) -> Any:
        raise errors.JobNotFound("no such job")

    handlers.replies["get_job"] = fail
    async with serving(handlers, metrics=metrics) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        await stub.Enqueue(jobs_pb.EnqueueRequest())
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetJob(jobs_pb.GetJobRequest())

    def calls(rpc: str, code: str) -> float | None:
        labels = {"transport": "grpc", "rpc": rpc, "code": code}
        return metrics.registry.get_sample_value("atlasqueue_rpc_calls_total", labels)

    assert calls("JobService/Enqueue", "OK") == 1
    assert calls("JobService/GetJob", "NOT_FOUND") == 1
    opened = {"rpc": "JobService/Enqueue"}
    assert metrics.registry.get_sample_value("atlasqueue_rpc_open", opened) == 0


def test_a_handler_without_a_method_is_refused_when_it_is_bound() -> None:
    with pytest.raises(TypeError, match="has no method enqueue for"):
        bind(JOBS, object(), Metrics("test"))
