"""Uniform jobs are answered as all others are, whether the statement that takes all ids for new stored them or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from atlasqueue_server.domain import batching
from atlasqueue_server.domain import enqueue as domain
from atlasqueue_server.domain.enqueue import DOUBT_S, Enqueuer
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import (
    AtlasQueueError,
    JobIdConflict,
    Overloaded,
    ShuttingDown,
    TooManyQueues,
)
from atlasqueue_server.model.jobs import NewJob
from atlasqueue_server.store.database import Database
from tests.factories import execute, new_job, open_database, uniform_of
from tests.waiting import eventually_so

QUEUE = "mail"
ALL_NEW, IF_NEW, CLASSIFY = (
    "enqueue_uniform_jobs_if_all_new",
    "enqueue_jobs_if_new",
    "classify_enqueued_jobs",
)


@dataclass
class Process:
    """What one server process enqueues with, and what it has counted and told."""

    database: Database
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    ready: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        signals = Signals(ready=[self.ready.append])
        queues = Queues(self.database, signals)
        self.enqueuer = Enqueuer(
            self.database, queues, signals, journal=Journal(registry=self.registry)
        )

    async def enqueue(self, jobs: list[NewJob]) -> dict[int, AtlasQueueError]:
        """What became of them, as uniform jobs."""
        return await self.enqueuer.enqueue_uniform(uniform_of(jobs))

    def counted(self, name: str, **labels: str) -> float:
        """A series of its metrics."""
        return self.registry.get_sample_value(f"atlasqueue_{name}", labels) or 0


class Recorded(Database):
    """A pool that keeps the names of what ran on it."""

    ran: list[str]

    async def run(self, name: str, params: Any = None) -> Any:
        """Runs a statement."""
        self.ran.append(name)
        return await super().run(name, params)

    async def run_together(self, statements: Any) -> Any:
        """Runs statements in one transaction."""
        if len(statements) > 1:
            self.ran.append("+".join(name for name, _ in statements))
        return await super().run_together(statements)

    def took(self) -> list[str]:
        """What has stored jobs since the last look."""
        ran = [name for name in self.ran if "enqueue" in name]
        self.ran.clear()
        return ran


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Recorded]:
    """A pool on a migrated database."""
    database = Recorded(migrated_database_url, connections_min=4, connections_max=4)
    database.ran = []
    await database.open()
    # With each new link the queues are asked for again.
    await eventually_so(lambda: database.links_made == 4)
    yield database
    await database.close()


@pytest.fixture
async def connection(migrated_database_url: str) -> AsyncIterator[Any]:
    """Looks on."""
    async with await psycopg.AsyncConnection.connect(migrated_database_url, autocommit=True) as it:
        yield it


@pytest.fixture
async def process(database: Recorded) -> AsyncIterator[Process]:
    """A process."""
    process = Process(database)
    yield process
    await process.enqueuer.close()


def mails(count: int, **fields: Any) -> list[NewJob]:
    """New jobs with payloads of their own."""
    return [new_job(QUEUE, payload=b"mail %d" % n, **fields) for n in range(count)]


async def bodies(connection: Any, table: str = "jobs") -> dict[str, bytes]:
    """The payloads of the jobs that stand in a table."""
    rows = await execute(
        connection,
        f"select job_id::text, payload from atlasqueue.{table}"
        + ("" if table == "jobs" else " join atlasqueue.jobs using (queue, job_id)"),
    )
    assert len(rows) == len(dict(rows))
    return dict(rows)


async def test_jobs_that_are_new_take_one_statement(
    process: Process, database: Recorded, connection: Any
) -> None:
    jobs = mails(100)
    assert await process.enqueue(jobs) == {}
    assert database.took() == [ALL_NEW]
    assert await bodies(connection, "ready") == {job.job_id: job.payload for job in jobs}
    assert process.ready == [QUEUE]


async def test_each_is_answered_by_its_position(process: Process, connection: Any) -> None:
    same, other = mails(2)
    assert await process.enqueuer.enqueue([same, other]) == [None, None]
    first, twice, changed = mails(3)
    jobs = [
        other._replace(payload=b"of another"),
        first,
        same,
        twice,
        twice,
        changed,
        changed._replace(payload=b"of another"),
        *mails(60),
        changed._replace(payload=b"of a third"),
    ]
    errors = await process.enqueue(jobs)
    assert list(errors) == [0, 6, len(jobs) - 1]
    for at, error in errors.items():
        assert isinstance(error, JobIdConflict)
        assert jobs[at].job_id in str(error)
    fine = [other, *(job for at, job in enumerate(jobs) if at not in errors)]
    assert await bodies(connection) == {job.job_id: job.payload for job in fine}
    assert await bodies(connection, "ready") == await bodies(connection)


async def test_more_than_a_flight_holds_are_answered_by_position_too(
    process: Process, database: Recorded, connection: Any
) -> None:
    """Only the piece that has the id which exists is stored the long way."""
    jobs = mails(2 * batching.ROWS_MAX + 500)
    at = batching.ROWS_MAX + 7
    assert await process.enqueuer.enqueue([jobs[at]._replace(payload=b"first")]) == [None]
    database.took()
    errors = await process.enqueue(jobs)
    assert list(errors) == [at]
    assert isinstance(errors[at], JobIdConflict)
    assert sorted(database.took()) == sorted([*[ALL_NEW] * 3, IF_NEW, CLASSIFY])
    assert await bodies(connection) == {
        job.job_id: b"first" if n == at else job.payload for n, job in enumerate(jobs)
    }


@pytest.mark.parametrize(("ahead", "table"), [(3600, "scheduled"), (-3600, "ready")])
async def test_a_time_to_run_at_is_kept(
    process: Process, connection: Any, ahead: int, table: str
) -> None:
    run_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=ahead)
    jobs = mails(100, run_at=run_at)
    assert await process.enqueue(jobs) == {}
    assert await bodies(connection, table) == {job.job_id: job.payload for job in jobs}
    rows = await execute(connection, "select distinct run_at from atlasqueue.jobs")
    assert rows == [(run_at,)]
    # The same call again is no conflict.
    assert await process.enqueue(jobs) == {}


async def test_after_an_id_that_existed_nobody_takes_new_ids_for_granted_for_a_while(
    process: Process, database: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(domain, "time", SimpleNamespace(monotonic=lambda: now[0]))
    jobs = mails(70)
    assert await process.enqueue(jobs) == {}
    assert database.took() == [ALL_NEW]
    assert await process.enqueue(jobs) == {}
    assert database.took() == [ALL_NEW, IF_NEW, CLASSIFY]
    now[0] += DOUBT_S - 0.01
    assert await process.enqueue(mails(70)) == {}
    assert database.took() == [IF_NEW]
    now[0] += 0.01
    assert await process.enqueue(mails(70)) == {}
    assert database.took() == [ALL_NEW]


async def test_calls_that_share_a_flight_get_each_its_own_answers(
    process: Process, database: Recorded, connection: Any
) -> None:
    """Uniform jobs of two queues and a lone job that come at once are one transaction."""
    (stored,) = mails(1)
    letters = [new_job("post", kind="letter", payload=b"%d" % n) for n in range(5)]
    other = letters[3]._replace(payload=b"of another")
    assert await process.enqueuer.enqueue([stored, letters[4], other]) == [None] * 3
    database.took()
    (lone,) = mails(1)
    jobs = [*mails(20), stored._replace(payload=b"of another")]
    answers = await asyncio.gather(
        process.enqueue(jobs), process.enqueuer.enqueue([lone]), process.enqueue(letters)
    )
    assert [list(answers[0]), answers[1], list(answers[2])] == [[20], [None], [3]]
    assert database.took() == [f"{IF_NEW}+{IF_NEW}", CLASSIFY, CLASSIFY]
    fine = [stored, lone, *jobs[:20], *letters[:3], other, letters[4]]
    assert await bodies(connection) == {job.job_id: job.payload for job in fine}


async def test_a_queue_for_which_there_is_no_room_takes_none(
    process: Process, database: Recorded, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "QUEUES_MAX", 1)
    assert await process.enqueue(mails(70)) == {}
    database.took()
    with pytest.raises(TooManyQueues, match="no room for post"):
        await process.enqueue([new_job("post") for _ in range(70)])
    assert database.took() == []
    assert await execute(connection, "select count(*) from atlasqueue.jobs") == [(70,)]


async def test_too_many_that_wait_and_those_that_come_too_late_are_refused(
    process: Process, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "PENDING_ROWS_MAX", 1500)
    with pytest.raises(Overloaded):
        await process.enqueue(mails(1501))
    assert await bodies(connection) == {}
    assert await process.enqueue(mails(1500)) == {}
    await process.enqueuer.close()
    with pytest.raises(ShuttingDown):
        await process.enqueue(mails(70))
    assert await execute(connection, "select count(*) from atlasqueue.jobs") == [(1500,)]


async def test_metrics_count_what_was_new_and_what_was_repeated(process: Process) -> None:
    jobs = mails(100, kind="sms")
    for times in (1, 2):
        assert await process.enqueue(jobs) == {}
        assert process.counted("jobs_enqueued_total", queue=QUEUE, kind="sms") == 100
        assert process.counted("enqueues_repeated_total", queue=QUEUE) == 100 * (times - 1)
        assert process.counted("enqueue_batch_jobs_count") == times
        assert process.counted("enqueue_batch_jobs_sum") == 100 * times
        assert process.counted("commit_batch_jobs_sum", verb="enqueue") == 100 * times


@pytest.mark.parametrize("count", [100, batching.ROWS_MAX + 100])
async def test_two_servers_that_are_sent_the_same_jobs_store_each_once(
    database: Recorded, connection: Any, migrated_database_url: str, count: int
) -> None:
    """One finds that ids exist while the other stores them; stored is what both are told."""
    jobs = mails(count)
    async with open_database(migrated_database_url) as beside:
        processes = [Process(database), Process(beside)]
        orders = (jobs, jobs[::-1], jobs)
        answers = await asyncio.gather(
            *(process.enqueue(order) for process in processes for order in orders)
        )
        assert answers == [{}] * 6
        for process in processes:
            await process.enqueuer.close()
    for table in ("jobs", "ready"):
        assert await bodies(connection, table) == {job.job_id: job.payload for job in jobs}
    deltas = await execute(
        connection, "select sum(ready)::int, sum(scheduled)::int from atlasqueue.depth_deltas"
    )
    assert deltas == [(count, 0)]
    counted = [p.counted("jobs_enqueued_total", queue=QUEUE, kind="email") for p in processes]
    # Of a commit in which only some ids were new the journal does not know the kinds.
    unknown = [p.counted("jobs_enqueued_total", queue=QUEUE, kind="_unknown") for p in processes]
    assert sum(counted) + sum(unknown) == count
