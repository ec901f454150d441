"""kill -9 of a worker and of the server, with real processes."""

from __future__ import annotations

import time
from datetime import timedelta

import psycopg

from atlasqueue import AsyncClient, Depth, NewJob, QueuePolicy, RetryPolicy
from tests.plugins.processes import Processes
from tests.waiting import eventually

JOBS = 100
VISIBILITY_S = 3
APP = "tests.system.apps:app"


async def test_the_leases_of_a_killed_worker_expire_and_run_again(
    processes: Processes, migrated_database_url: str
) -> None:
    server = processes.server(migrated_database_url)
    async with AsyncClient(server.address) as client:
        policy = QueuePolicy(
            RetryPolicy(initial_backoff=timedelta(milliseconds=100)),
            timedelta(seconds=VISIBILITY_S),
        )
        await client.queues.update_policy("held", policy)
        await client.enqueue_many([NewJob("held", "hold-once") for _ in range(JOBS)])
        doomed = processes.worker(APP, server.address, "--queues", "held", "--slots", str(JOBS))

        async def depth() -> Depth:
            return await client.queues.depth("held")

        async def all_leased() -> bool:
            return (await depth()).leased == JOBS

        await eventually(all_leased)
        doomed.kill()
        killed_at = time.monotonic()
        processes.worker(APP, server.address, "--queues", "held", "--slots", str(JOBS))

        async def all_expired() -> bool:
            async with await psycopg.AsyncConnection.connect(migrated_database_url) as connection:
                cursor = await connection.execute(
                    "select count(*) from atlasqueue.failures where cause = 'x'"
                )
                row = await cursor.fetchone()
            return row == (JOBS,)

        await eventually(all_expired, within_s=VISIBILITY_S + 20)
        expired_after = time.monotonic() - killed_at

        async def all_ran() -> bool:
            return (await depth()).succeeded == JOBS

        await eventually(all_ran, within_s=20)
    # The promise is two seconds; the rest is for a machine that other tests load.
    assert expired_after < VISIBILITY_S + 2 + 8


async def test_a_killed_server_loses_nothing_and_workers_come_back(
    processes: Processes, migrated_database_url: str
) -> None:
    server = processes.server(migrated_database_url)
    async with AsyncClient(server.address) as client:
        job_ids = await client.enqueue_many([NewJob("busy", "quick") for _ in range(500)])
        worker = processes.worker(APP, server.address, "--queues", "busy")

        async def some_done() -> bool:
            return (await client.queues.depth("busy")).succeeded >= 50

        await eventually(some_done)
        server.kill()
        processes.server(migrated_database_url, address=server.address)
        # The client repeats the call until the new server answers.
        job_ids += await client.enqueue_many([NewJob("busy", "quick") for _ in range(500)])

        async def all_done() -> bool:
            return (await client.queues.depth("busy")).succeeded == len(job_ids)

        await eventually(all_done, within_s=60)
        assert len(set(job_ids)) == 1000
        assert worker.process.poll() is None
        assert worker.stop() == 0
