"""Faults on real servers and workers: stopped, killed, restarted, without a server, without a database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlasqueue import (
    AsyncClient,
    AtlasQueueError,
    DeadLetterReason,
    JobState,
    NewJob,
    QueuePolicy,
    RetryPolicy,
)
from atlasqueue_server.embedded import EmbeddedPostgres
from atlasqueue_server.store.migrations import migrate
from tests.factories import execute
from tests.plugins.processes import Child, Processes
from tests.ports import free_port
from tests.waiting import eventually

APP = "tests.system.apps:weather"
FAST = RetryPolicy(initial_backoff=timedelta(milliseconds=50))


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """What handlers in worker processes have told."""
    path = tmp_path / "notes" / "notes.jsonl"
    path.parent.mkdir()
    path.touch()
    monkeypatch.setenv("ATLASQUEUE_TEST_NOTES", str(path))

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines()]

    return read


async def short(client: AsyncClient, queue: str, seconds: float) -> None:
    """A queue with a short visibility timeout and a quick retry."""
    policy = QueuePolicy(FAST, timedelta(seconds=seconds))
    await client.queues.update_policy(queue, policy)


async def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await execute(connection, statement)


def logged(child: Child, word: str) -> bool:
    return word in child.log.read_text()


async def leader_of(client: AsyncClient) -> tuple[str, int]:
    """(address, term) of the leader; the address is empty while there is none."""
    view = await client.cluster()
    addresses = {server.server_id: server.address for server in view.servers}
    return addresses.get(view.leader, ""), view.term


async def lead(client: AsyncClient, servers: list[Child]) -> tuple[Child, Child, int]:
    """(leader, other, term) of two servers, once one of them leads."""

    async def found() -> tuple[str, int] | None:
        address, term = await leader_of(client)
        return (address, term) if address in [s.address for s in servers] else None

    address, term = await eventually(found)
    leader, other = sorted(servers, key=lambda server: server.address != address)
    return leader, other, term


async def both_serve(url: str) -> bool:
    return await query(url, "select count(*) from atlasqueue.servers") == [(2,)]


async def test_a_killed_leader_is_followed_within_its_lease_and_a_second(
    processes: Processes, migrated_database_url: str
) -> None:
    servers = [processes.server(migrated_database_url) for _ in range(2)]
    await eventually(lambda: both_serve(migrated_database_url))
    async with AsyncClient([s.address for s in servers]) as client:
        leader, other, term = await lead(client, servers)
        # Measured by the database alone: how long after the old lease's end the new term began to tick.
        leader.kill()
        (ended,) = await query(migrated_database_url, "select expires_at from atlasqueue.leader")

        async def follows() -> bool:
            return (await leader_of(client)) == (other.address, term + 1)

        await eventually(follows)
        # The new lease began when it was taken, 5 s before its first end.
        (later,) = await query(
            migrated_database_url, "select expires_at - interval '5 s' from atlasqueue.leader"
        )
    # Renewals move it on, so this is an upper bound, with room for a machine that others load.
    assert (later[0] - ended[0]).total_seconds() < 1 + 4


async def test_a_leader_that_was_stopped_for_three_leases_changes_nothing(
    processes: Processes, migrated_database_url: str
) -> None:
    lease = ("--leader-lease-seconds", "1")
    servers = [processes.server(migrated_database_url, *lease) for _ in range(2)]
    await eventually(lambda: both_serve(migrated_database_url))
    async with AsyncClient([s.address for s in servers], timeout=2) as client:
        leader, other, term = await lead(client, servers)
        leader.process.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()

        async def follows() -> bool:
            return (await leader_of(client)) == (other.address, term + 1)

        await eventually(follows)
        await asyncio.sleep(max(0.0, stopped_at + 3 - time.monotonic()))
        leader.process.send_signal(signal.SIGCONT)

        async def notices() -> bool:
            return logged(leader, "leadership_lost")

        await eventually(notices)
        # The term that began meanwhile goes on, and its holder with it.
        assert (await leader_of(client))[1] == term + 1
        assert not logged(other, "leadership_lost")


async def test_a_stopped_worker_finds_its_lease_lost_and_the_second_run_stands(
    processes: Processes, migrated_database_url: str, notes: Callable[[], list[dict[str, Any]]]
) -> None:
    visibility_s = 1.5
    server = processes.server(migrated_database_url)
    async with AsyncClient(server.address) as client:
        await short(client, "stubborn", visibility_s)
        job_id = await client.enqueue("stubborn", "stubborn")
        first = processes.worker(APP, server.address, "--queues", "stubborn")

        async def started() -> bool:
            return bool(notes())

        await eventually(started)
        old_fence = int(notes()[0]["saw"].split()[1])
        first.process.send_signal(signal.SIGSTOP)
        second = processes.worker(APP, server.address, "--queues", "stubborn")
        await asyncio.sleep(2 * visibility_s)
        done = await client.wait(job_id, timeout=30)
        assert (done.result, done.deliveries, done.crashes) == (b"delivery 2", 2, 1)
        first.process.send_signal(signal.SIGCONT)

        async def told() -> bool:
            return any(n["saw"] == "told lost" and n["delivery"] == 1 for n in notes())

        await eventually(told)

        async def nothing_reported() -> bool:
            return logged(first, "outcome_dropped") or logged(first, "outcome_refused")

        await eventually(nothing_reported)
        # And were it reported all the same, under the fence of the first lease:
        assert await report_complete(server.address, "stubborn", job_id, old_fence) == "STALE"
        again = await client.get(job_id)
        assert (again.state, again.result) == (JobState.SUCCEEDED, b"delivery 2")
        assert first.process.poll() is None
        assert [first.stop(), second.stop()] == [0, 0]


async def report_complete(address: str, queue: str, job_id: str, fence: int) -> str:
    import grpc

    from atlasqueue.v1 import worker_service_pb2, worker_service_pb2_grpc

    outcome = worker_service_pb2.JobOutcome(queue=queue, job_id=job_id, fence=fence)
    outcome.complete.result = b"too late"
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = worker_service_pb2_grpc.WorkerServiceStub(channel)
        answer = await stub.Report(worker_service_pb2.ReportRequest(outcomes=[outcome]))
    name = worker_service_pb2.ReportStatus.Name(answer.results[0].status)
    return name.removeprefix("REPORT_STATUS_")


class Load:
    """Producers that enqueue all the time and note what was acknowledged and what failed."""

    def __init__(self, addresses: list[str], queue: str = "busy") -> None:
        self.acknowledged: list[str] = []
        self.errors: list[AtlasQueueError] = []
        self._addresses = addresses
        self._queue = queue

    @asynccontextmanager
    async def running(self, producers: int = 4) -> AsyncIterator[Load]:
        """Loads meanwhile; ends with the calls that were out."""
        self._stop = asyncio.Event()
        tasks = [asyncio.create_task(self._produce()) for _ in range(producers)]
        try:
            yield self
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)

    async def _produce(self) -> None:
        # As a user would: default settings.
        async with AsyncClient(self._addresses) as client:
            while not self._stop.is_set():
                jobs = [NewJob(self._queue, "quick", b"%d" % i) for i in range(10)]
                try:
                    self.acknowledged += await client.enqueue_many(jobs)
                except AtlasQueueError as error:
                    self.errors.append(error)
                await asyncio.sleep(0.01)


async def all_accounted_for(url: str, acknowledged: list[str]) -> None:
    """Each acknowledged job succeeded once, and nothing else is there."""

    async def idle() -> bool:
        rows = await query(
            url,
            "select (select count(*) from atlasqueue.ready) + (select count(*) from atlasqueue.leased)"
            " + (select count(*) from atlasqueue.scheduled)",
        )
        return rows == [(0,)]

    await eventually(idle, within_s=90, each_s=0.2)
    rows = await query(url, "select job_id::text, state from atlasqueue.finished")
    states = Counter(rows)
    assert {job_id for job_id, _ in rows} >= set(acknowledged), "an acknowledged job is lost"
    assert all(count == 1 and state == "s" for (_, state), count in states.items())
    assert await query(url, "select count(*) from atlasqueue.dead_letters") == [(0,)]


async def serves(address: str) -> bool:
    try:
        async with AsyncClient(address, retry_for=0, timeout=2) as client:
            await client.cluster()
    except AtlasQueueError:
        return False
    return True


@pytest.mark.long
async def test_a_rolling_restart_under_load_surfaces_nothing(
    processes: Processes, migrated_database_url: str
) -> None:
    servers = [processes.server(migrated_database_url) for _ in range(2)]
    addresses = [server.address for server in servers]
    await eventually(lambda: both_serve(migrated_database_url))
    workers = [processes.worker(APP, ",".join(addresses), "--queues", "busy") for _ in range(2)]
    async with Load(addresses).running() as load:

        async def flows(since: int) -> bool:
            return len(load.acknowledged) >= since + 300

        for server in servers:
            await eventually(lambda since=len(load.acknowledged): flows(since))  # type: ignore[misc]
            code = await asyncio.to_thread(server.stop)
            assert code == 0
            processes.server(migrated_database_url, address=server.address)
            await eventually(lambda at=server.address: serves(at))  # type: ignore[misc]
        await eventually(lambda since=len(load.acknowledged): flows(since))  # type: ignore[misc]
    assert load.errors == []
    await all_accounted_for(migrated_database_url, load.acknowledged)
    rows = await query(
        migrated_database_url, "select max(crashes), max(attempt) from atlasqueue.finished"
    )
    assert rows == [(0, 0)]
    assert [worker.stop() for worker in workers] == [0, 0]


async def test_postgres_restarts_lose_nothing_and_end_nobody(
    processes: Processes, own_postgres: EmbeddedPostgres
) -> None:
    restarts = int(os.environ.get("ATLASQUEUE_TEST_RESTARTS", "3"))
    url = own_postgres.url_for("postgres")
    await migrate(url)
    servers = [processes.server(url) for _ in range(2)]
    addresses = [server.address for server in servers]
    await eventually(lambda: both_serve(url))
    workers = [processes.worker(APP, ",".join(addresses), "--queues", "busy") for _ in range(2)]
    back_after: list[float] = []
    async with Load(addresses).running() as load:

        async def flows(since: int) -> bool:
            return len(load.acknowledged) >= since + 100

        for _ in range(restarts):
            await eventually(lambda since=len(load.acknowledged): flows(since))  # type: ignore[misc]
            await asyncio.to_thread(restart_immediately, own_postgres)
            started_at = time.monotonic()
            await eventually(
                lambda since=len(load.acknowledged): flows(since),  # type: ignore[misc]
                within_s=60,
            )
            back_after.append(time.monotonic() - started_at)
    print("back after", [f"{seconds:.1f} s" for seconds in back_after])
    assert load.errors == []
    await all_accounted_for(url, load.acknowledged)
    assert all(child.process.poll() is None for child in processes.children)
    assert not any(logged(server, "INTERNAL") or logged(server, "Traceback") for server in servers)
    assert [child.stop() for child in (*workers, *servers)] == [0, 0, 0, 0]


def restart_immediately(postgres: EmbeddedPostgres) -> None:
    """As a crash: no checkpoint, no goodbye."""
    postgres.restart(mode="immediate")


async def test_a_job_that_kills_its_worker_is_buried_and_others_flow(
    processes: Processes, migrated_database_url: str
) -> None:
    server = processes.server(migrated_database_url)
    async with AsyncClient(server.address) as client:
        await short(client, "doomed", 1)
        doomed = await client.enqueue("doomed", "abort")
        steady = processes.worker(APP, server.address, "--queues", "busy")

        async def keep_a_worker() -> bool:
            if not victims or victims[-1].process.poll() is not None:
                victims.append(processes.worker(APP, server.address, "--queues", "doomed"))
            return (await client.get(doomed)).state is JobState.DEAD

        victims: list[Child] = []
        async with Load([server.address]).running(1) as load:
            await eventually(keep_a_worker, within_s=60, each_s=0.1)
        job = await client.get(doomed)
        assert (job.dead_letter_reason, job.crashes, job.attempt) == (
            DeadLetterReason.CRASH_LOOP,
            3,
            0,
        )
        assert load.errors == []
        await all_of_busy_done(client, len(load.acknowledged))
        assert steady.stop() == 0


async def all_of_busy_done(client: AsyncClient, count: int) -> None:
    async def done() -> bool:
        return (await client.queues.depth("busy")).succeeded == count

    await eventually(done, within_s=60)


@pytest.mark.long
async def test_an_outage_of_the_only_server_costs_no_running_job_its_lease(
    processes: Processes, migrated_database_url: str, notes: Callable[[], list[dict[str, Any]]]
) -> None:
    """Four visibility timeouts without any server, 1 000 jobs in two workers whose handlers run on."""
    visibility_s, jobs = 2.5, 1000
    address = f"127.0.0.1:{free_port()}"
    lease = ("--leader-lease-seconds", "1")
    server = processes.server(migrated_database_url, *lease, address=address)
    async with AsyncClient(address) as client:
        await short(client, "long", visibility_s)
        await client.enqueue_many([NewJob("long", "until-released") for _ in range(jobs)])
        options = ("--queues", "long", "--slots", str(jobs // 2))
        workers = [processes.worker(APP, address, *options) for _ in range(2)]

        async def all_run() -> bool:
            return len(notes()) == jobs

        await eventually(all_run, within_s=60)
        server.kill()
        await asyncio.sleep(4 * visibility_s)
        processes.server(migrated_database_url, *lease, address=address)

        async def heard_again() -> bool:
            return await query(
                migrated_database_url,
                "select count(*) from atlasqueue.sessions"
                " where not lost and streaming and epoch > 1 and expires_at > now()",
            ) == [(2,)]

        await eventually(heard_again, within_s=30)
        # Long enough for everything that wanted to expire.
        await asyncio.sleep(2 * visibility_s)
        assert (await client.queues.depth("long")).leased == jobs
        (Path(os.environ["ATLASQUEUE_TEST_NOTES"]).parent / "go").touch()

        async def all_done() -> bool:
            return (await client.queues.depth("long")).succeeded == jobs

        await eventually(all_done, within_s=60)
        rows = await query(
            migrated_database_url,
            "select max(deliveries), max(crashes), count(*) from atlasqueue.finished",
        )
        assert rows == [(1, 0, jobs)]
        assert len(notes()) == jobs
        assert [worker.stop() for worker in workers] == [0, 0]


async def test_a_hung_handler_fails_by_its_deadline_and_others_flow(
    processes: Processes, migrated_database_url: str
) -> None:
    """Its worker lives and sends heartbeats, so only the job's own clock finds it."""
    server = processes.server(migrated_database_url)
    async with AsyncClient(server.address) as client:
        await short(client, "hung", 30)
        job_id = await client.enqueue(
            "hung", "hang", deadline=timedelta(seconds=1), retry_policy=FAST
        )
        worker = processes.worker(APP, server.address, "--queues", "hung,busy", "--slots", "2")
        done = await client.wait(job_id, timeout=40)
        assert (done.result, done.attempt, done.crashes) == (b"ran again", 1, 0)
        await client.enqueue_many([NewJob("busy", "quick") for _ in range(50)])
        await all_of_busy_done(client, 50)
        assert worker.process.poll() is None
