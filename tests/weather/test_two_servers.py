"""Two servers on one database: what one does, the other's streams see; with NOTIFY, and without any.

Each signal has two ways. Where NOTIFY is silenced the comparison with the database (domain/checkup.py)
has to find it; where that never looks, NOTIFY has to bring it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest

from atlasqueue import AsyncClient, JobState
from atlasqueue.v1 import worker_service_pb2
from atlasqueue_server.domain import supervise
from atlasqueue_server.domain.checkup import Checkup
from atlasqueue_server.store import cluster
from tests.factories import execute
from tests.plugins.server import RunningServer, ServerFactory
from tests.waiting import eventually
from tests.weather.workers import WITHIN_S, BareStream

REOPEN = worker_service_pb2.STREAM_STATE_REOPEN
LIVE = worker_service_pb2.STREAM_STATE_LIVE
Two = tuple[RunningServer, RunningServer]


@pytest.fixture(params=["notify alone", "notify silenced"])
async def two(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    migrated_database_url: str,
    start_server: ServerFactory,
) -> Two:
    """Two servers that learn of each other in one way only."""
    if request.param == "notify alone":

        async def never(self: Checkup) -> None:
            self._dispatcher.looked(asyncio.get_running_loop().time())

        monkeypatch.setattr(Checkup, "look", never)
    else:

        async def silence(database: Any, message: str) -> None:
            return

        monkeypatch.setattr(cluster, "notify", silence)
    return await start_server(migrated_database_url), await start_server(migrated_database_url)


@pytest.fixture
async def client(two: Two) -> AsyncIterator[AsyncClient]:
    """A producer on the second server."""
    async with AsyncClient(two[1].grpc_address, retry_for=5) as client:
        yield client


async def ended(call: Any) -> grpc.aio.AioRpcError:
    """The error with which a stream ends."""
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            while await call.read() is not grpc.aio.EOF:
                pass
    return failed.value


async def test_a_report_on_another_server_gives_the_credit_back(
    two: Two, client: AsyncClient
) -> None:
    """It showed, with NOTIFY lost, as a worker that got no job any more once its slots were used up."""
    stream = await BareStream(two[0], ["work"], slots=1).opened()
    for number in range(3):
        await client.enqueue("work", "k")
        await stream.next("leased_jobs")
        assert len(stream.jobs) == number + 1
        assert await stream.complete(two[1], stream.jobs[-1]) == "APPLIED"


async def test_a_cancel_reaches_the_stream_on_another_server(two: Two, client: AsyncClient) -> None:
    stream = await BareStream(two[0], ["work"], slots=1).opened()
    job_id = await client.enqueue("work", "k")
    await stream.next("leased_jobs")
    assert await client.cancel(job_id) is JobState.LEASED
    asked = await stream.next("cancel_requested")
    assert [job.job_id for job in asked.jobs] == [job_id]


async def test_a_stream_reopened_elsewhere_keeps_its_leases_and_ends_the_older_one(
    two: Two, client: AsyncClient
) -> None:
    older = await BareStream(two[0], ["work"], slots=2).opened()
    await client.enqueue("work", "k")
    await older.next("leased_jobs")
    newer = await older.reopen(two[1], slots=2, last_fence=older.jobs[0].fence)
    assert newer.session_id == older.session_id
    assert "SUPERSEDED" in str((await ended(older.call)).trailing_metadata())
    # One slot is taken by the lease that was kept, one is free.
    await client.enqueue("work", "k")
    await client.enqueue("work", "k")
    await newer.next("leased_jobs")
    answer = await newer.heartbeat(two[0], older.jobs + newer.jobs, newer.jobs[0].fence)
    assert (answer.stream, len(answer.lost), len(newer.jobs)) == (LIVE, 0, 1)
    assert await newer.complete(two[1], older.jobs[0]) == "APPLIED"


async def test_a_session_lost_elsewhere_ends_its_stream(
    two: Two, client: AsyncClient, connection: Any
) -> None:
    stream = await BareStream(two[0], ["work"], slots=1).opened()
    other = await BareStream(two[1], ["work"], slots=1).opened()
    await execute(connection, "update atlasqueue.sessions set expires_at = now() - interval '1 s'")
    for call in (stream.call, other.call):
        assert "SESSION_LOST" in str((await ended(call)).trailing_metadata())


async def test_the_next_leader_is_there_at_once_after_a_clean_stop(two: Two) -> None:
    async def one_leads() -> bool:
        return any(server.application.leader.leading for server in two)

    await eventually(one_leads)
    leading, other = sorted(two, key=lambda server: not server.application.leader.leading)
    term = leading.application.leader.term
    await leading.application.drain()
    assert term is not None

    async def the_other_leads() -> bool:
        return other.application.leader.leading

    # Far less than the lease of 5 s, in which nobody could have taken over from a dead leader.
    await eventually(the_other_leads, within_s=4)
    async with AsyncClient(other.grpc_address) as client:
        view = await client.cluster()
    assert view.leader == other.application.server_id
    assert view.term == term.term + 1
    assert {server.server_id for server in view.servers} >= {view.leader}


async def test_a_heartbeat_says_reopen_when_the_streams_server_is_gone(
    migrated_database_url: str, start_server: ServerFactory, connection: Any
) -> None:
    """It showed as LIVE for ever: nobody was left to note that the stream had ended."""
    gone, other = [await start_server(migrated_database_url) for _ in range(2)]
    stream = await BareStream(gone, ["work"], slots=1).opened()
    assert (await stream.heartbeat(other)).stream == LIVE
    # As kill -9 leaves it: the session's row is as it was, and the server is not heard any more.
    await supervise.stop(*gone.application.links._tasks)
    await execute(
        connection,
        "update atlasqueue.servers set seen_at = seen_at - interval '1 m' where server_id = %(id)s",
        id=gone.application.server_id,
    )
    assert (await stream.heartbeat(other)).stream == REOPEN
    newer = await stream.reopen(other, slots=1)
    assert (await newer.heartbeat(other)).stream == LIVE


async def test_a_lease_that_never_arrived_comes_back(
    migrated_database_url: str, start_server: ServerFactory, connection: Any
) -> None:
    """Leased by a server that did not know yet that the stream had gone elsewhere, above every fence
    that the worker ever saw: it stayed leased for as long as the worker lived."""
    server = await start_server(migrated_database_url)
    stream = await BareStream(server, ["work"], slots=1).opened()
    async with AsyncClient(server.grpc_address) as client:
        job_id = await client.enqueue("work", "k")
        await stream.next("leased_jobs")
        await stream.heartbeat(server)
        assert (await client.get(job_id)).state is JobState.LEASED
        await execute(connection, "update atlasqueue.leased set leased_at = now() - interval '1 h'")
        await stream.heartbeat(server)
        # Back, and leased again, since its slot is free.
        await stream.next("leased_jobs")
        job = await client.get(job_id)
    assert (job.deliveries, job.attempt, job.crashes) == (2, 0, 0)


async def test_streams_go_away_before_their_connection_does(
    migrated_database_url: str, start_server: ServerFactory
) -> None:
    server = await start_server(migrated_database_url)
    server.application.workers._stream_age_s = 0.5
    stream = await BareStream(server, ["work"], slots=2).opened()
    async with AsyncClient(server.grpc_address) as client:
        await client.enqueue("work", "k")
        await stream.next("go_away")
        assert await stream.call.read() is grpc.aio.EOF
        server.application.workers._stream_age_s = 1e9
        newer = await stream.reopen(server, 2, stream.jobs[0].fence if stream.jobs else 0)
        if not stream.jobs:
            await newer.next("leased_jobs")
        (job,) = stream.jobs + newer.jobs
        assert await newer.complete(server, job) == "APPLIED"


async def test_drain_sends_streams_and_polls_away(
    migrated_database_url: str, start_server: ServerFactory
) -> None:
    server, other = [await start_server(migrated_database_url) for _ in range(2)]
    stream = await BareStream(server, ["work"], slots=2).opened()
    request = worker_service_pb2.LeaseOnceRequest(queues=["work"], worker="p")
    request.wait.FromTimedelta(timedelta(seconds=60))
    poll: Any = asyncio.ensure_future(server.workers.LeaseOnce(request))
    polls = server.application.dispatcher._polls

    async def waits() -> bool:
        return bool(polls)

    await eventually(waits)
    await server.application.drain()
    await stream.next("go_away")
    async with asyncio.timeout(WITHIN_S):
        assert not (await poll).jobs
    refused = BareStream(server, ["work"], slots=1)
    assert "SHUTTING_DOWN" in str((await ended(refused.call)).trailing_metadata())
    newer = await stream.reopen(other, slots=2)
    assert newer.session_id == stream.session_id


async def test_a_slow_consumer_is_closed_and_its_leases_come_back(
    migrated_database_url: str, start_server: ServerFactory, connection: Any
) -> None:
    """It lives and sends heartbeats, yet reads nothing: what waits goes back when the write times out."""
    server = await start_server(migrated_database_url, write_timeout_seconds=1)
    async with AsyncClient(server.grpc_address) as client:
        for _ in range(40):
            await client.enqueue("work", "k", b"x" * 900_000)
        slow = await BareStream(server, ["work"], slots=40).opened()

        async def most_are_back() -> bool:
            # Not all forty are leased at one moment where a lease takes longer than the write may.
            query = "select count(*) from atlasqueue.ready where deliveries > 0"
            ((back,),) = await execute(connection, query)
            return int(back) >= 20

        await eventually(most_are_back)

        async def reopen() -> bool:
            return (await slow.heartbeat(server)).stream == REOPEN

        await eventually(reopen)
        # Opened again with what had arrived, it gets the others too, each once more at most.
        newer = await slow.reopen(server, slots=40)
        async with asyncio.timeout(WITHIN_S):
            while len(newer.jobs) < 40:
                await newer.next("leased_jobs")
        rows = await execute(
            connection, "select max(deliveries), max(crashes) from atlasqueue.leased"
        )
    assert rows == [(2, 0)]


async def test_a_process_that_stood_still_looks_before_it_leases(
    migrated_database_url: str, start_server: ServerFactory
) -> None:
    server = await start_server(migrated_database_url)
    dispatcher = server.application.dispatcher
    stream = await BareStream(server, ["work"], slots=1).opened()
    checkup: Callable[[], Awaitable[None]] = server.application.checkup.look
    await supervise.stop(server.application._looking)
    dispatcher._looked_at = 0.0
    for lane, _ in dispatcher._lanes.values():
        # A lease that is under way was begun by a process that still knew its sessions.
        await lane.quiesce()
    async with AsyncClient(server.grpc_address) as client:
        await client.enqueue("work", "k")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await stream.next("leased_jobs")
    assert not stream.jobs
    await checkup()
    assert dispatcher.knows_its_sessions()
