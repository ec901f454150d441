"""Jobs from SQL on a real server with a real worker; an older server while the function arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import psycopg
import pytest

from atlasqueue import AsyncClient, JobNotFound, JobState
from atlasqueue_server.domain.watermark import SWEEP_S
from atlasqueue_server.store import migrations
from atlasqueue_server.store.migrations import known_migrations, migrate
from atlasqueue_worker import App, JobContext, Worker
from tests.factories import execute
from tests.plugins.server import RunningServer, ServerFactory

OLDER = 3


def _app(handler: Callable[[JobContext], object]) -> App:
    app = App()
    app.job("shout", queue="mail")(handler)
    return app


async def test_it_runs_once_it_is_committed_and_never_before(server: RunningServer) -> None:
    seen: list[bytes] = []

    def shout(job: JobContext) -> bytes:
        seen.append(job.payload)
        return job.payload.upper()

    worker = Worker(_app(shout), server.grpc_address, grace=0.2)
    working = asyncio.create_task(worker.run())
    url = server.application.config.database_url.get_secret_value()
    call = "select atlasqueue.enqueue('mail', 'shout', %(payload)s::bytea)"
    async with (
        await psycopg.AsyncConnection.connect(url) as connection,
        AsyncClient(server.grpc_address) as client,
    ):
        await execute(connection, call, payload=b"rolled back")
        await connection.rollback()
        ((job_id,),) = await execute(connection, call, payload=b"open")
        # Another job goes by, so the queue was looked into while the transaction was open.
        other = await client.enqueue("mail", "shout", b"other")
        assert (await client.wait(other, timeout=20)).result == b"OTHER"
        with pytest.raises(JobNotFound):
            await client.get(str(job_id))
        await connection.commit()
        job = await client.wait(str(job_id), timeout=20)
        assert (job.state, job.result) == (JobState.SUCCEEDED, b"OPEN")

        ((later,),) = await execute(
            connection,
            "select atlasqueue.enqueue('mail', 'shout', 'later',"
            " run_at => clock_timestamp() + interval '0.3 s')",
        )
        await connection.commit()
        assert (await client.wait(str(later), timeout=20)).result == b"LATER"
    worker.stop()
    await working
    assert seen == [b"other", b"open", b"later"]


@pytest.mark.long
async def test_a_late_commit_is_found_in_a_long_history(server: RunningServer) -> None:
    """How it showed: places of a billion jobs were looked through by 100 000 a second, for hours."""
    url = server.application.config.database_url.get_secret_value()
    worker = Worker(_app(lambda job: job.payload), server.grpc_address, grace=0.2)
    working = asyncio.create_task(worker.run())
    async with (
        await psycopg.AsyncConnection.connect(url) as connection,
        AsyncClient(server.grpc_address) as client,
    ):
        await execute(connection, "select setval('atlasqueue.ready_seq', 1000000000)")
        ((job_id,),) = await execute(connection, "select atlasqueue.enqueue('mail', 'shout')")
        other = await client.enqueue("mail", "shout")
        await client.wait(other, timeout=20)
        # From now on the queue's sweep begins above the open transaction's place.
        await asyncio.sleep(SWEEP_S + 1)
        await connection.commit()
        assert (await client.wait(str(job_id), timeout=60)).state is JobState.SUCCEEDED
    worker.stop()
    await working


async def test_depth_counts_both(server: RunningServer) -> None:
    url = server.application.config.database_url.get_secret_value()
    async with (
        await psycopg.AsyncConnection.connect(url) as connection,
        AsyncClient(server.grpc_address) as client,
    ):
        await execute(
            connection, "select atlasqueue.enqueue('mail', 'k') from generate_series(1, 30)"
        )
        await execute(
            connection, "select atlasqueue.enqueue('mail', 'k', run_at => now() + interval '1 h')"
        )
        await connection.commit()
        await client.enqueue("mail", "k")
        depth = await client.queues.depth("mail")
        assert (depth.ready, depth.scheduled) == (31, 1)
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"{server.http_address}/metrics")).text
    assert 'atlasqueue_queue_jobs{queue="mail",state="ready"} 31.0' in metrics
    # A server counts what it has done itself, as docs/metrics.md says.
    assert 'atlasqueue_jobs_enqueued_total{kind="k",queue="mail"} 1.0' in metrics


async def test_an_older_server_goes_on_while_the_function_arrives(
    database_url: str, start_server: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows nothing of the function, and serves its jobs like others."""
    older = [migration for migration in known_migrations() if migration.version <= OLDER]
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "known_migrations", lambda: older)
        await migrate(database_url)
        server = await start_server(database_url)
    async with AsyncClient(server.grpc_address) as client:
        ids = [await client.enqueue("mail", "shout", b"before")]
        # The migration waits for no transaction that has touched the queue's tables.
        async with await psycopg.AsyncConnection.connect(database_url) as reader:
            await execute(reader, "select from atlasqueue.jobs for update")
            assert (await migrate(database_url)).applied[0].startswith(f"{OLDER + 1:04}_")
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            ((job_id,),) = await execute(connection, "select atlasqueue.enqueue('mail', 'shout')")
        ids += [str(job_id), await client.enqueue("mail", "shout", b"after")]
        worker = Worker(_app(lambda job: b"done"), server.grpc_address, grace=0.2)
        working = asyncio.create_task(worker.run())
        for each in ids:
            assert (await client.wait(each, timeout=20)).result == b"done"
        worker.stop()
        await working
