"""The tables of the worked example in docs/job_lifecycle.md are what the database holds."""

from __future__ import annotations

import asyncio
import re
import uuid

import psycopg
from google.protobuf.duration_pb2 import Duration

from atlasqueue.v1 import (
    job_pb2,
    job_service_pb2,
    queue_service_pb2,
    worker_service_pb2,
)
from tests.docs.pages import ROOT
from tests.plugins.server import RunningServer

ROW = re.compile(r"^\| (?:then )?`(\w+)` \|(.*)\|$", re.MULTILINE)
JOB_ID = str(uuid.UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0001))


def told() -> list[tuple[str, ...]]:
    """(table, attempt, crashes, deliveries, fence, more) of every row of the page, in order."""
    text = (ROOT / "docs" / "job_lifecycle.md").read_text()
    example = text.partition("## One job, table by table")[2].partition("\n## ")[0]
    return [(t, *(cell.strip() for cell in cells.split("|"))) for t, cells in ROW.findall(example)]


class Reader:
    """Notes rows as the page shows them."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        self.connection = connection
        self.seen: list[tuple[str, ...]] = []

    async def ask(self, query: str) -> list[tuple[object, ...]]:
        return await (await self.connection.execute(query)).fetchall()  # type: ignore[call-overload]

    async def note(self, table: str, more: str) -> None:
        """The job's row in a table of states, once it is there."""
        async with asyncio.timeout(10):
            while not (
                rows := await self.ask(
                    f"select attempt, crashes, deliveries, fence, {more} from atlasqueue.{table}"
                )
            ):
                await asyncio.sleep(0.01)
        assert len(rows) == 1
        self.seen.append((table, *(str(value) for value in rows[0])))

    async def note_failure(self) -> None:
        """The newest failure."""
        rows = await self.ask(
            "select attempt, fence, 'cause ' || cause::text || ', ' || case when final then '' else 'not ' end || 'final'"
            " from atlasqueue.failures order by fence desc limit 1"
        )
        attempt, fence, more = (str(value) for value in rows[0])
        self.seen.append(("failures", attempt, "", "", fence, more))

    async def due(self) -> None:
        """The backoff is over."""
        await self.ask("update atlasqueue.scheduled set run_at = now() returning 1")


READY = "'seq ' || seq || ', cause ' || cause::text"
LEASED = "'session ' || session_id"
SCHEDULED = "'cause ' || cause::text"


async def test_the_example_is_what_happens(
    server: RunningServer, migrated_database_url: str
) -> None:
    async def lease(session_id: int = 0) -> int:
        answer = await server.workers.LeaseOnce(
            worker_service_pb2.LeaseOnceRequest(
                queues=["media"], worker="w", wait=Duration(seconds=10), session_id=session_id
            )
        )
        assert [job.job_id for job in answer.jobs] == [JOB_ID]
        return int(answer.session.session_id)

    async def report(fence: int, **outcome: object) -> int:
        told = worker_service_pb2.JobOutcome(
            queue="media",
            job_id=JOB_ID,
            fence=fence,
            **outcome,  # type: ignore[arg-type]
        )
        answer = await server.workers.Report(worker_service_pb2.ReportRequest(outcomes=[told]))
        return int(answer.results[0].status)

    failure = worker_service_pb2.Fail(error=job_pb2.JobError(type="IOError", message="no disk"))
    # An hour of backoff, so that each row stays until this test has read it.
    hour = Duration(seconds=3600)
    policy = job_pb2.RetryPolicy(max_attempts=2, initial_backoff=hour)
    async with await psycopg.AsyncConnection.connect(
        migrated_database_url, autocommit=True
    ) as connection:
        reader = Reader(connection)
        job = job_pb2.NewJob(queue="media", job_id=JOB_ID, kind="resize", retry_policy=policy)
        await server.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=job))
        await reader.note("ready", READY)
        a = await lease()
        await reader.note("leased", LEASED)

        assert await report(1, fail=failure) == worker_service_pb2.REPORT_STATUS_APPLIED
        await reader.note("scheduled", SCHEDULED)
        await reader.note_failure()
        assert await report(1, fail=failure) == worker_service_pb2.REPORT_STATUS_ALREADY_APPLIED

        await reader.due()
        await reader.note("ready", READY)
        assert await lease(a) == a
        await reader.note("leased", LEASED)
        await reader.ask("update atlasqueue.sessions set expires_at = now() returning 1")
        await reader.note("scheduled", SCHEDULED)
        await reader.note_failure()

        await reader.due()
        b = await lease()
        await reader.note("leased", LEASED)
        complete = worker_service_pb2.Complete(result=b"x")
        assert await report(2, complete=complete) == worker_service_pb2.REPORT_STATUS_STALE
        assert await report(3, fail=failure) == worker_service_pb2.REPORT_STATUS_APPLIED
        await reader.note("dead_letters", "'reason ' || reason::text || ' (ATTEMPTS_SPENT)'")
        await reader.note_failure()

        await server.queues.RedriveDeadLetters(
            queue_service_pb2.RedriveDeadLettersRequest(queue="media", job_ids=[JOB_ID])
        )
        await reader.note("ready", READY)
        assert await lease(b) == b
        await reader.note("leased", LEASED)
        assert await report(4, complete=complete) == worker_service_pb2.REPORT_STATUS_APPLIED
        await reader.note(
            "finished",
            "'state ' || state::text || case when result is null then '' else ', result' end",
        )

    assert reader.seen == told()
    found = (await server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=JOB_ID))).job
    assert (found.state, found.deliveries, len(found.failures)) == (
        job_pb2.JOB_STATE_SUCCEEDED,
        4,
        3,
    )
