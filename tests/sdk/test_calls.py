"""What a client does with the answers that go wrong: what it repeats, on which server, for how long, and what it then says."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from atlasqueue import (
    AsyncClient,
    AtlasQueueError,
    Client,
    DeadlineExceeded,
    EnqueueManyError,
    InternalError,
    InvalidField,
    JobNotFound,
    JobState,
    MessageTooLarge,
    NewJob,
    TooManyQueues,
    Unavailable,
    async_calls,
    batches,
)
from atlasqueue.errors import DETAILS_KEY
from atlasqueue.retry import Backoff
from atlasqueue.v1 import job_pb2, job_service_pb2_grpc
from atlasqueue.v1 import job_service_pb2 as wire
from tests.ports import free_port

PATIENT_S = 3600.0

Answer = Callable[[Any, Any], Awaitable[Any]]


class Scripted(job_service_pb2_grpc.JobServiceServicer):
    """Answers one call after another as it is told, the last way from then on; keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def _next(self, request: Any) -> Any:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def _unary(self, request: Any, context: Any) -> Any:
        return await self._next(request)(request, context)

    Enqueue = EnqueueBatch = GetJob = ListJobs = CancelJob = CancelJobs = _unary

    async def WatchJob(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """A stream of what the script yields."""
        async for job in self._next(request)(request, context):
            yield wire.WatchJobResponse(job=job)


@asynccontextmanager
async def served(*servers: Scripted) -> AsyncIterator[list[str]]:
    """The addresses at which they listen."""
    async with AsyncExitStack() as stack:
        addresses = []
        for server in servers:
            listening = grpc.aio.server()
            job_service_pb2_grpc.add_JobServiceServicer_to_server(server, listening)
            address = f"127.0.0.1:{free_port()}"
            listening.add_insecure_port(address)
            await listening.start()
            stack.push_async_callback(listening.stop, None)
            addresses.append(address)
        yield addresses


def refuses(code: grpc.StatusCode, reason: str = "") -> Answer:
    """Fails a call, with a reason of the contract or, as a transport does, without."""

    async def answer(_request: Any, context: Any) -> Any:
        if reason:
            status = status_pb2.Status(code=code.value[0], message="a test wants it so")
            info = error_details_pb2.ErrorInfo(reason=reason, domain="atlasqueue")
            status.details.add().Pack(info)
            context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
        await context.abort(code, "a test wants it so")

    return answer


async def stores(request: wire.EnqueueRequest, _context: Any) -> wire.EnqueueResponse:
    """Takes a job."""
    return wire.EnqueueResponse(job_id=request.job.job_id)


def stands(*states: JobState, then: Answer | None = None) -> Callable[..., AsyncIterator[Any]]:
    """A watch that shows these states; `then` is how it ends, or it just ends."""

    async def watch(request: Any, context: Any) -> AsyncIterator[Any]:
        for state in states:
            yield job_pb2.Job(job_id=request.job_id, state=state.value)
        if then is not None:
            await then(request, context)

    return watch


async def breaks(_request: Any, context: Any) -> None:
    """How a server ends calls that stops."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the server stops")


async def sleeps(_request: Any, _context: Any) -> None:
    """Says nothing for as long as a call lasts."""
    await asyncio.sleep(PATIENT_S)


@pytest.mark.parametrize(
    "failure",
    [
        refuses(grpc.StatusCode.UNAVAILABLE),
        refuses(grpc.StatusCode.UNAVAILABLE, "OVERLOADED"),
        refuses(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"),
        refuses(grpc.StatusCode.CANCELLED),
        refuses(grpc.StatusCode.UNKNOWN),
        refuses(grpc.StatusCode.INTERNAL),
        refuses(grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_what_may_have_worked_is_repeated_as_the_same_job(failure: Answer) -> None:
    server = Scripted(failure, failure, stores)
    async with served(server) as addresses, AsyncClient(addresses, retry_for=PATIENT_S) as client:
        job_id = await client.enqueue("q", "k")
    assert [asked.job.job_id for asked in server.asked] == [job_id] * 3


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (refuses(grpc.StatusCode.INTERNAL, "INTERNAL"), InternalError),
        (refuses(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"), InvalidField),
        (refuses(grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"), JobNotFound),
        (refuses(grpc.StatusCode.RESOURCE_EXHAUSTED), MessageTooLarge),
        (refuses(grpc.StatusCode.UNIMPLEMENTED), AtlasQueueError),
    ],
)
async def test_what_would_fail_again_is_not_repeated(
    failure: Answer, kind: type[AtlasQueueError]
) -> None:
    server = Scripted(failure)
    async with served(server) as addresses, AsyncClient(addresses, retry_for=PATIENT_S) as client:
        with pytest.raises(kind) as refused:
            await client.enqueue("q", "k")
        assert type(refused.value) is kind
    assert len(server.asked) == 1


async def test_a_try_without_an_answer_ends_and_the_next_server_is_asked() -> None:
    silent, good = Scripted(sleeps), Scripted(stores)
    async with served(silent, good) as addresses:
        async with AsyncClient(addresses, timeout=0.1, retry_for=PATIENT_S) as client:
            await client.enqueue("q", "k")


async def test_who_repeats_for_himself_comes_to_the_next_server() -> None:
    """How it showed: with retry_for=0 every call went to the first server, also while it was down."""
    good = Scripted(stores)
    async with served(good) as addresses:
        async with AsyncClient([f"127.0.0.1:{free_port()}", *addresses], retry_for=0) as client:
            with pytest.raises(Unavailable):
                await client.enqueue("q", "k")
            await client.enqueue("q", "k")
    assert len(good.asked) == 1


async def test_a_watch_outlives_a_server_however_long_the_job_has_stood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How it showed: a wait whose job had not moved for retry_for ended at the first restart of a server."""
    now = [0.0]
    monkeypatch.setattr(async_calls, "time", SimpleNamespace(monotonic=lambda: now[0]))
    lived: list[float] = []
    monkeypatch.setattr(Backoff, "reset_if_lived", lambda _, seconds: lived.append(seconds))
    taken = asyncio.Event()

    async def breaks_much_later(request: Any, context: Any) -> None:
        await taken.wait()
        now[0] += PATIENT_S
        await breaks(request, context)

    server = Scripted(
        stands(JobState.READY, then=breaks_much_later), stands(JobState.LEASED, JobState.SUCCEEDED)
    )
    states = []
    async with served(server) as addresses, AsyncClient(addresses, retry_for=30) as client:
        async for job in client.watch("an id"):
            states.append(job.state)
            # Comes when the watch has gone on.
            asyncio.get_running_loop().call_soon(taken.set)
    assert states == [JobState.READY, JobState.LEASED, JobState.SUCCEEDED]
    assert lived == [PATIENT_S]


async def test_a_wait_that_goes_on_elsewhere_has_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(async_calls, "time", SimpleNamespace(monotonic=lambda: now[0]))
    left: list[float] = []

    async def tells_the_time(_request: Any, context: Any) -> None:
        left.append(context.time_remaining())
        now[0] += PATIENT_S

    server = Scripted(stands(JobState.READY, then=tells_the_time), stands(then=tells_the_time))
    async with served(server) as addresses, AsyncClient(addresses, retry_for=30) as client:
        with pytest.raises(DeadlineExceeded):
            await client.wait("an id", timeout=2 * PATIENT_S)
    assert [round(seconds / PATIENT_S) for seconds in left] == [2, 1]


@pytest.mark.parametrize("end", [None, breaks])
async def test_a_watch_that_nobody_answers_is_given_up(end: Answer | None) -> None:
    server = Scripted(stands(then=end))
    async with served(server) as addresses, AsyncClient(addresses, retry_for=0) as client:
        with pytest.raises(Unavailable):
            await client.wait("an id")
    assert len(server.asked) == 1


async def test_a_watch_is_not_repeated_when_the_answer_is_no() -> None:
    server = Scripted(stands(then=refuses(grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")))
    async with served(server) as addresses, AsyncClient(addresses, retry_for=PATIENT_S) as client:
        with pytest.raises(JobNotFound):
            await client.wait("an id")
    assert len(server.asked) == 1


async def test_a_wait_ends_in_time_while_no_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """How it showed: between two tries it slept on, up to 5 s past its end, and did not say that nobody answered."""
    monkeypatch.setattr(Backoff, "next_delay", lambda _: PATIENT_S)
    async with AsyncClient(f"127.0.0.1:{free_port()}", retry_for=2 * PATIENT_S) as client:
        async with asyncio.timeout(30):
            with pytest.raises(DeadlineExceeded, match=r"within 0.3 s \("):
                await client.wait("an id", timeout=0.3)


async def test_a_last_look_does_not_last_while_no_server_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How it showed: wait(timeout=0) took all of retry_for, 30 s."""
    monkeypatch.setattr(async_calls, "LOOK_AGAIN_S", 0.0)
    async with AsyncClient(f"127.0.0.1:{free_port()}", retry_for=PATIENT_S) as client:
        async with asyncio.timeout(30):
            with pytest.raises(Unavailable):
                await client.wait("an id", timeout=0)


@pytest.mark.parametrize(("states", "left"), [([], True), ([JobState.READY], False)])
async def test_a_wait_whose_time_is_over_leaves_only_a_silent_server(
    states: list[JobState], left: bool
) -> None:
    late = stands(*states, then=refuses(grpc.StatusCode.DEADLINE_EXCEEDED))
    first, second = Scripted(late, stands(JobState.SUCCEEDED)), Scripted(stands(JobState.SUCCEEDED))
    async with served(first, second) as addresses:
        async with AsyncClient(addresses, retry_for=PATIENT_S) as client:
            await client.wait("an id", timeout=PATIENT_S)
    assert (len(first.asked), len(second.asked)) == ((1, 1) if left else (2, 0))


async def test_results_of_a_batch_stand_where_their_jobs_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "BATCH_ITEMS", 2)

    async def odd_ones_out(request: wire.EnqueueBatchRequest, _: Any) -> wire.EnqueueBatchResponse:
        response = wire.EnqueueBatchResponse()
        for job in request.jobs:
            result = response.results.add(job_id=job.job_id)
            if int(job.kind) % 2:
                result.error.message = f"no {job.kind}"
        return response

    seen: list[int] = []
    jobs = [NewJob("q", str(n), job_id=f"id {n}") for n in range(5)]
    async with served(Scripted(odd_ones_out)) as addresses, AsyncClient(addresses) as client:
        with pytest.raises(EnqueueManyError) as refused:
            await client.enqueue_many(jobs, progress=seen.append)
    assert refused.value.job_ids == [f"id {n}" for n in range(5)]
    assert {n: str(error) for n, error in refused.value.errors.items()} == {1: "no 1", 3: "no 3"}
    assert "2 of 5 jobs were refused; the first is number 1: no 1" in str(refused.value)
    assert seen == [2, 4, 5]


async def test_progress_counts_what_the_transport_refuses() -> None:
    """How it showed: progress stood at 99 of 100 when the last job was over 4 MiB."""

    async def too_large(request: wire.EnqueueBatchRequest, context: Any) -> Any:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large")

    seen: list[int] = []
    async with served(Scripted(too_large)) as addresses, AsyncClient(addresses) as client:
        with pytest.raises(EnqueueManyError) as refused:
            await client.enqueue_many([NewJob("q", "k")], progress=seen.append)
        assert isinstance(refused.value.errors[0], MessageTooLarge)
        assert seen == [1]
        for count in (2, 40):
            with pytest.raises(MessageTooLarge):
                await client.enqueue_many([NewJob("q", "k")] * count)


def mixed(count: int) -> list[NewJob]:
    """Jobs that can go together, and each tenth one of another sort; their payloads are their numbers."""
    return [NewJob("q", "few" if n % 10 == 4 else "many", b"%d" % n) for n in range(count)]


def sent(request: wire.EnqueueBatchRequest) -> dict[int, str]:
    """The ids of the jobs in a message, by their numbers."""
    found = {int(job.payload): job.job_id for job in request.jobs}
    assert len(found) == len(request.jobs)
    for each in request.uniform:
        ids = [str(uuid.UUID(bytes=each.job_ids[16 * n :][:16])) for n in range(len(each.payloads))]
        found |= dict(zip(map(int, each.payloads), ids, strict=True))
    return found


async def knows_no_uniform(
    request: wire.EnqueueBatchRequest, context: Any
) -> wire.EnqueueBatchResponse:
    """Answers as a server that is older than uniform jobs, and refuses each seventh job."""
    if not request.jobs:
        await refuses(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")(request, context)
    response = wire.EnqueueBatchResponse()
    for job in request.jobs:
        result = response.results.add(job_id=job.job_id)
        if not int(job.payload) % 7:
            result.error.message = f"no {int(job.payload)}"
    return response


async def knows_uniform(
    request: wire.EnqueueBatchRequest, context: Any
) -> wire.EnqueueBatchResponse:
    """The same as a server does that knows them."""
    alone = wire.EnqueueBatchRequest(jobs=request.jobs)
    response = (
        await knows_no_uniform(alone, context) if request.jobs else wire.EnqueueBatchResponse()
    )
    for each in request.uniform:
        uniform = response.uniform.add()
        for index, payload in enumerate(each.payloads):
            if not int(payload) % 7:
                uniform.refused.add(index=index).error.message = f"no {int(payload)}"
    return response


@pytest.mark.parametrize("answer", [knows_uniform, knows_no_uniform])
async def test_refusals_of_both_forms_stand_where_their_jobs_did(
    monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setattr(batches, "BATCH_ITEMS", 50)
    server = Scripted(answer)
    seen: list[int] = []
    async with served(server) as addresses, AsyncClient(addresses) as client:
        with pytest.raises(EnqueueManyError) as refused:
            await client.enqueue_many(mixed(120), progress=seen.append)
    assert {n: str(error) for n, error in refused.value.errors.items()} == {
        n: f"no {n}" for n in range(0, 120, 7)
    }
    arrived = [sent(request) for request in server.asked]
    if answer is knows_no_uniform:
        # 20 jobs, the rest, are too few to go together. The others come again, all and with the same ids.
        assert arrived[0] == arrived[1]
        assert arrived[2] == arrived[3]
        arrived = arrived[1::2] + arrived[4:]
        assert not any(request.uniform for request in server.asked[1::2])
    assert [len(each) for each in arrived] == [50, 50, 20]
    assert {n: i for each in arrived for n, i in each.items()} == dict(
        enumerate(refused.value.job_ids)
    )
    assert seen == [50, 100, 120]


@pytest.mark.parametrize("blocking", [False, True], ids=["asyncio", "blocking"])
@pytest.mark.parametrize("only_uniform", [False, True])
async def test_a_server_that_is_older_than_uniform_jobs_gets_them_one_by_one(
    only_uniform: bool, blocking: bool
) -> None:
    """One that has other jobs beside them passes them over; one that has none says that there are no jobs."""
    jobs = [NewJob("q", "k", b"%d" % n) for n in range(1, 7)] * 6
    jobs = [replace(job, payload=b"%d" % (7 * n + 1)) for n, job in enumerate(jobs)]
    if not only_uniform:
        jobs += [
            replace(job, priority=1) for job in (NewJob("q", "k", b"2"), NewJob("q", "k", b"3"))
        ]
    server = Scripted(knows_no_uniform)

    def block(address: str) -> list[str]:
        with Client(address) as client:
            return client.enqueue_many(jobs)

    async with served(server) as addresses:
        if blocking:
            job_ids = await asyncio.to_thread(block, addresses[0])
        else:
            async with AsyncClient(addresses) as client:
                job_ids = await client.enqueue_many(jobs)
    first, second = server.asked
    assert len(first.uniform) == 1
    assert len(first.jobs) == (0 if only_uniform else 2)
    assert not second.uniform
    assert len(second.jobs) == len(jobs)
    wanted = {int(job.payload): i for job, i in zip(jobs, job_ids, strict=True)}
    assert sent(first) == sent(second) == wanted


async def test_a_sort_that_is_refused_as_a_whole_is_refused_for_each_of_its_jobs() -> None:
    async def no_more_queues(
        request: wire.EnqueueBatchRequest, _: Any
    ) -> wire.EnqueueBatchResponse:
        response = wire.EnqueueBatchResponse()
        for job in request.jobs:
            response.results.add(job_id=job.job_id)
        for each in request.uniform:
            uniform = response.uniform.add()
            if each.shared.queue == "new":
                uniform.error.details.add().Pack(
                    error_details_pb2.ErrorInfo(reason="TOO_MANY_QUEUES", domain="atlasqueue")
                )
        return response

    jobs = [NewJob(("old", "new", "old")[n % 3], "k") for n in range(120)] + [
        NewJob("old", "other")
    ]
    async with served(Scripted(no_more_queues)) as addresses, AsyncClient(addresses) as client:
        with pytest.raises(EnqueueManyError) as refused:
            await client.enqueue_many(jobs)
    assert sorted(refused.value.errors) == list(range(1, 120, 3))
    assert {type(error) for error in refused.value.errors.values()} == {TooManyQueues}


async def test_a_call_that_is_refused_as_a_whole_says_so() -> None:
    """Also in the form that every server knows."""
    server = Scripted(refuses(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"))
    async with served(server) as addresses, AsyncClient(addresses) as client:
        with pytest.raises(InvalidField):
            await client.enqueue_many([NewJob("q", "k")] * 40)
    assert [len(request.uniform) for request in server.asked] == [1, 0]


async def test_the_blocking_twin_ends_in_time_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted(stands(JobState.READY, then=breaks), stands(JobState.SUCCEEDED))

    def block(address: str) -> None:
        with Client([f"127.0.0.1:{free_port()}", address], retry_for=PATIENT_S) as client:
            assert client.wait("an id").state is JobState.SUCCEEDED

    async with served(server) as (address,):
        await asyncio.to_thread(block, address)
