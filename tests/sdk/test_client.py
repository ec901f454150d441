"""The blocking and the asyncio client against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from atlasqueue import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    EnqueueManyError,
    InvalidField,
    JobCancelled,
    JobFinal,
    JobIdAmbiguous,
    JobIdConflict,
    JobNotFound,
    JobState,
    MessageTooLarge,
    NewJob,
    QueueNotFound,
    QueuePolicy,
    RetryPolicy,
    Unavailable,
    new_job_id,
)
from atlasqueue.v1 import worker_service_pb2
from tests.plugins.server import RunningServer
from tests.ports import free_port


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[AsyncClient]:
    """A client of the test's server."""
    async with AsyncClient(server.grpc_address, retry_for=5) as client:
        yield client


async def test_a_job_is_read_as_it_was_enqueued(client: AsyncClient) -> None:
    run_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    policy = RetryPolicy(7, timedelta(seconds=2), 3.0, timedelta(minutes=5))
    job_id = await client.enqueue(
        "q",
        "k",
        b"\0payload",
        headers={"ключ": "значение"},
        priority=2,
        run_at=run_at,
        deadline=timedelta(seconds=90),
        retry_policy=policy,
    )
    job = await client.get(job_id)
    assert (job.queue, job.kind, job.payload, job.priority) == ("q", "k", b"\0payload", 2)
    assert job.headers == {"ключ": "значение"}
    assert (job.run_at, job.deadline, job.retry_policy) == (run_at, timedelta(seconds=90), policy)
    assert (job.state, job.attempt, job.deliveries) == (JobState.SCHEDULED, 0, 0)


async def test_the_same_id_is_one_job(client: AsyncClient) -> None:
    job_id = new_job_id()
    assert await client.enqueue("q", "k", b"a", job_id=job_id) == job_id
    assert await client.enqueue("q", "k", b"a", job_id=job_id.upper()) == job_id
    with pytest.raises(JobIdConflict):
        await client.enqueue("q", "k", b"b", job_id=job_id)
    assert (await client.queues.depth("q")).ready == 1


async def test_errors_are_typed(client: AsyncClient) -> None:
    with pytest.raises(JobNotFound):
        await client.get(new_job_id())
    with pytest.raises(QueueNotFound):
        await client.queues.get("nowhere")
    with pytest.raises(InvalidField) as refused:
        await client.enqueue("q", "", priority=9)
    assert {v.field for v in refused.value.violations} == {"job.kind", "job.priority"}
    job_id = new_job_id()
    await client.enqueue("q", "k", job_id=job_id)
    await client.enqueue("r", "k", job_id=job_id)
    with pytest.raises(JobIdAmbiguous):
        await client.get(job_id)
    assert await client.cancel(job_id, queue="q") is JobState.CANCELLED
    with pytest.raises(JobFinal):
        await client.cancel(job_id, queue="q")


async def test_many_jobs_in_several_messages(client: AsyncClient) -> None:
    seen: list[int] = []
    job_ids = await client.enqueue_many(
        (NewJob("q", "k", str(n).encode()) for n in range(4500)), progress=seen.append
    )
    assert len(set(job_ids)) == 4500
    assert seen == [2000, 4000, 4500]
    assert job_ids == sorted(job_ids)
    assert (await client.get(job_ids[4321])).payload == b"4321"
    assert (await client.queues.depth("q")).ready == 4500


async def test_large_payloads_are_cut_by_bytes(client: AsyncClient) -> None:
    payload = b"x" * (1024 * 1024)
    job_ids = await client.enqueue_many([NewJob("q", "k", payload) for _ in range(7)])
    assert len((await client.get(job_ids[6])).payload) == len(payload)


async def test_refused_jobs_are_named_and_the_others_stored(client: AsyncClient) -> None:
    jobs = [NewJob("q", "k"), NewJob("q", "bad kind"), NewJob("q", "k")]
    with pytest.raises(EnqueueManyError) as refused:
        await client.enqueue_many(jobs)
    assert list(refused.value.errors) == [1]
    assert isinstance(refused.value.errors[1], InvalidField)
    assert (await client.queues.depth("q")).ready == 2


async def test_many_jobs_of_several_sorts_are_read_as_they_were_enqueued(
    client: AsyncClient,
) -> None:
    """Those that exist, those that are refused and those that no message can carry beside them."""
    stored = await client.enqueue("q", "k", b"first")
    odd = {
        3: NewJob("q", "k", b"first", job_id=stored.upper()),
        70: NewJob("q", "k", b"second", job_id=stored),
        71: NewJob("q", "k", b"x" * (1024 * 1024 + 1)),
        72: NewJob("q", "k", job_id="no id", priority=5),
        73: NewJob("q", "k", job_id="00000000-0000-0000-0000-000000000000"),
        599: NewJob("q", "k", b"x" * (5 << 20)),
    }
    sorts: list[dict[str, Any]] = [
        {},
        {"headers": {"b": "2", "a": "1"}, "priority": 1},
        {"kind": "bad kind"},
        {"deadline": timedelta(seconds=90), "retry_policy": RetryPolicy(max_attempts=3)},
    ]
    jobs = [
        odd.get(n) or NewJob(**{"queue": "q", "kind": "k", "payload": b"%d" % n} | sorts[n % 4])
        for n in range(600)
    ]
    with pytest.raises(EnqueueManyError) as refused:
        await client.enqueue_many(jobs)
    bad = {n: InvalidField for n, job in enumerate(jobs) if job.kind == "bad kind"} | {
        70: JobIdConflict,
        71: InvalidField,
        72: InvalidField,
        73: InvalidField,
        599: MessageTooLarge,
    }
    assert {n: type(error) for n, error in refused.value.errors.items()} == bad
    job_ids = refused.value.job_ids
    assert job_ids[3] == job_ids[70] == stored
    assert (await client.queues.depth("q")).ready == 600 - len(bad)
    for n in (0, 1, 3, 5, 7, 593, 595, 597):
        job = await client.get(job_ids[n])
        assert job.payload == jobs[n].payload
        assert (job.headers, job.priority) == (jobs[n].headers or {}, jobs[n].priority or 3)
        assert (job.deadline, job.retry_policy) == (jobs[n].deadline, jobs[n].retry_policy)


async def test_a_job_that_no_message_can_carry_is_named_like_the_others(
    client: AsyncClient,
) -> None:
    """How it showed: one payload of 5 MiB among many ended the call, without the ids of those stored."""
    jobs = [NewJob("q", "k", b"x" * (size << 20)) for size in (0, 5, 0)]
    with pytest.raises(EnqueueManyError) as refused:
        await client.enqueue_many(jobs)
    assert {at: type(error) for at, error in refused.value.errors.items()} == {1: MessageTooLarge}
    assert len(refused.value.job_ids) == 3
    assert (await client.queues.depth("q")).ready == 2


async def test_the_longest_wait_is_no_wait_that_is_over(client: AsyncClient) -> None:
    """How it showed: a timeout of 300 years and more ended at once with DeadlineExceeded."""
    job_id = await client.enqueue("q", "k")
    waiting = asyncio.create_task(client.wait(job_id, timeout=1e12))
    await client.cancel(job_id)
    with pytest.raises(JobCancelled):
        await waiting


async def test_list_goes_through_all_pages(client: AsyncClient) -> None:
    job_ids = await client.enqueue_many([NewJob("q", f"k{n % 2}") for n in range(250)])
    assert [job.job_id async for job in client.list("q")] == job_ids
    odd = [job.job_id async for job in client.list("q", state=JobState.READY, kind="k1")]
    assert odd == job_ids[1::2]
    far = datetime.now(UTC) + timedelta(days=1)
    assert [job async for job in client.list("q", created_after=far)] == []


async def test_a_watch_tells_of_each_progress(client: AsyncClient, server: RunningServer) -> None:
    """Also when only the percentage has changed."""
    job_id = await client.enqueue("q", "k")
    request = worker_service_pb2.LeaseOnceRequest(queues=["q"], worker="w")
    leased = await server.workers.LeaseOnce(request)
    held = worker_service_pb2.HeldJob(queue="q", job_id=job_id, fence=leased.jobs[0].fence)
    held.progress.note = "at it"
    changes = client.watch(job_id)
    async with asyncio.timeout(30):
        assert (await anext(changes)).percent is None
        for percent in (10, 20):
            held.progress.percent = percent
            beat = worker_service_pb2.HeartbeatRequest(
                session_id=leased.session.session_id, epoch=1, held=[held], last_fence=held.fence
            )
            await server.workers.Heartbeat(beat)
            assert (await anext(changes)).percent == percent


async def test_wait_times_out(client: AsyncClient) -> None:
    job_id = await client.enqueue("q", "k")
    with pytest.raises(DeadlineExceeded):
        await client.wait(job_id, timeout=0.2)


async def test_no_time_to_wait_is_enough_for_what_has_settled(client: AsyncClient) -> None:
    """How it showed: of several waits that share a timeout, the last said of settled jobs that they had not."""
    settled, ready = [await client.enqueue("q", "k") for _ in range(2)]
    await client.cancel(settled)
    with pytest.raises(JobCancelled):
        await client.wait(settled, timeout=0)
    with pytest.raises(DeadlineExceeded):
        await client.wait(ready, timeout=-1)
    with pytest.raises(JobNotFound):
        await client.wait(new_job_id(), timeout=0)


async def test_queue_policy_pause_and_resume(client: AsyncClient) -> None:
    retries = RetryPolicy(4, timedelta(seconds=2), 3.0, timedelta(minutes=5))
    policy = QueuePolicy(retries, timedelta(seconds=9))
    assert (await client.queues.update_policy("q", policy)).policy == policy
    only_timeout = QueuePolicy(visibility_timeout=timedelta(seconds=5))
    changed = await client.queues.update_policy("q", only_timeout)
    assert changed.policy == QueuePolicy(retries, timedelta(seconds=5))
    reset = await client.queues.update_policy("q", QueuePolicy(), fields=["retry_policy"])
    assert reset.policy == only_timeout
    assert (await client.queues.pause("q")).paused
    assert not (await client.queues.resume("q")).paused
    assert [queue.name async for queue in client.queues.list()] == ["q"]


async def test_the_cluster_names_its_server(client: AsyncClient, server: RunningServer) -> None:
    cluster = await client.cluster()
    assert [s.server_id for s in cluster.servers] == [server.application.server_id]
    assert await client.workers() == []


async def test_a_server_that_is_away_is_passed_over(server: RunningServer) -> None:
    away = f"127.0.0.1:{free_port()}"
    async with AsyncClient([away, server.grpc_address]) as client:
        assert await client.enqueue("q", "k")
    async with AsyncClient(away, retry_for=0.2) as client:
        with pytest.raises(Unavailable):
            await client.enqueue("q", "k")


async def test_the_blocking_client_does_the_same(server: RunningServer) -> None:
    def block() -> None:
        with Client(server.grpc_address) as client:
            job_ids = client.enqueue_many([NewJob("q", "k", b"x") for _ in range(3)])
            assert [job.job_id for job in client.list("q")] == job_ids
            assert client.get(job_ids[0]).payload == b"x"
            assert client.cancel(job_ids[0]) is JobState.CANCELLED
            assert [job.state for job in client.watch(job_ids[0])] == [JobState.CANCELLED]
            assert client.queues.depth("q").cancelled == 1
            assert client.dead_letters.redrive("q") == 0
            with pytest.raises(DeadlineExceeded):
                client.wait(job_ids[1], timeout=0.2)

    await asyncio.to_thread(block)


async def test_a_closed_client_says_so(server: RunningServer) -> None:
    """How it showed: a call after close opened a channel that nobody closed any more."""
    client = AsyncClient(server.grpc_address)
    await client.enqueue("q", "k")
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        await client.enqueue("q", "k")


async def test_closing_ends_the_wait_of_another_thread(server: RunningServer) -> None:
    """How it showed: the call that was cut opened a channel of its own and went on."""
    client = Client(server.grpc_address)
    changes = client.watch(await asyncio.to_thread(client.enqueue, "q", "k"))
    await asyncio.to_thread(next, changes)
    client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        await asyncio.to_thread(next, changes)
