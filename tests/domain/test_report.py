"""Outcomes of one lease that wait for the same commit, and columns of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from atlasqueue_server.domain.report import Reporter, by_distinct_fences
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model.columns import CompletedJobs
from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.model.jobs import Outcome, OutcomeKind, Reported, ReportStatus
from atlasqueue_server.store import database as store_database
from atlasqueue_server.store import report as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.lease import LeasedRow
from tests.factories import Factory, execute, open_database, outcome_of
from tests.waiting import eventually

QUEUE = "mail"
APPLIED, REPEATED = ReportStatus.APPLIED, ReportStatus.ALREADY_APPLIED


def test_of_a_lease_that_is_told_twice_the_first_decides() -> None:
    outcomes = [outcome_of("q", "j", fence, OutcomeKind.RELEASE) for fence in (7, 8, 7, 9, 7, 8)]
    assert list(by_distinct_fences(outcomes)) == [[0, 1, 3], [2, 5], [4]]


@dataclass
class Process:
    """What one server process reports with, and a connection that looks on."""

    database: Database
    factory: Factory
    reporter: Reporter
    registry: CollectorRegistry
    looker_on: Any

    async def leased(self, count: int) -> list[LeasedRow]:
        """New jobs, leased."""
        await self.factory.enqueue_many(count)
        session = await self.factory.session()
        return await self.factory.lease(session.session_id, count)

    async def stored(self) -> dict[int, str]:
        """By fence: s and c for finished jobs, l for leased ones."""
        rows = await execute(
            self.looker_on,
            "select fence, state::text from atlasqueue.finished"
            " union all select fence, 'l' from atlasqueue.leased",
        )
        return dict(rows)  # type: ignore[arg-type]

    @property
    def commits(self) -> float | None:
        """How many flights there were."""
        labels = {"verb": "report"}
        return self.registry.get_sample_value("atlasqueue_commit_batch_jobs_count", labels)

    async def together(self, *calls: Sequence[Outcome]) -> list[list[ReportStatus]]:
        """The answers to calls that share a flight."""
        answers = await asyncio.gather(*map(self.reporter.report, calls))
        assert self.commits == 1
        return [[reported.status for reported in answer] for (answer,) in answers]


@pytest.fixture
async def process(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Process]:
    """A process without a server around it."""
    # On a busy machine what is held up on purpose must not be given up.
    for timeout in ("lock_timeout", "statement_timeout"):
        monkeypatch.setitem(store_database.SESSION_SETTINGS, timeout, "60s")
    async with (
        open_database(migrated_database_url) as database,
        await psycopg.AsyncConnection.connect(migrated_database_url, autocommit=True) as looker_on,
    ):
        registry = CollectorRegistry()
        reporter = Reporter(database, Signals(), Journal(registry))
        yield Process(database, Factory(database, QUEUE), reporter, registry, looker_on)
        await reporter.close()


def columns(rows: Sequence[LeasedRow], queue: str = QUEUE) -> CompletedJobs:
    """That these have succeeded without a result."""
    ids = b"".join(row.id_bytes for row in rows)
    return CompletedJobs(queue, ids, [row.fence for row in rows])


def cancels(rows: Sequence[LeasedRow]) -> list[Outcome]:
    """That the worker has cancelled these."""
    return [Outcome(QUEUE, row.job_id, row.fence, OutcomeKind.CANCEL) for row in rows]


async def test_columns_that_share_a_flight_answer_each_caller_for_its_own(process: Process) -> None:
    rows = await process.leased(9)
    await process.reporter.report(columns(rows[3:5]))
    parts = [columns(part) for part in (rows[:2], rows[2:4], rows[4:])]
    answers = await asyncio.gather(*map(process.reporter.report, parts))
    assert process.commits == 2
    assert [[reported.status for reported in answer] for (answer,) in answers] == [
        [APPLIED, APPLIED],
        [APPLIED, REPEATED],
        [REPEATED, APPLIED, APPLIED, APPLIED, APPLIED],
    ]
    assert await process.stored() == {row.fence: "s" for row in rows}


async def test_of_a_lease_in_two_columns_of_a_flight_one_is_applied(process: Process) -> None:
    rows = await process.leased(6)
    first, second = await process.together(columns(rows[:4]), columns(rows[2:]))
    assert (first, second) == ([APPLIED] * 4, [REPEATED] * 2 + [APPLIED] * 2)
    assert await process.stored() == {row.fence: "s" for row in rows}


@pytest.mark.parametrize("column_first", [True, False])
async def test_of_a_lease_in_both_forms_of_a_flight_the_first_decides(
    process: Process, column_first: bool
) -> None:
    rows = await process.leased(6)
    calls: list[Sequence[Outcome]] = [columns(rows[:4]), cancels(rows[2:])]
    if not column_first:
        calls.reverse()
    first, second = await process.together(*calls)
    assert first == [APPLIED] * 4
    twice = [ReportStatus.STALE] * 2
    assert second == (twice + [APPLIED] * 2 if column_first else [APPLIED] * 2 + twice)
    both = "s" if column_first else "c"
    expected = ["s", "s", both, both, "c", "c"]
    assert await process.stored() == dict(zip([r.fence for r in rows], expected, strict=True))


async def test_columns_of_several_queues_share_a_flight(process: Process) -> None:
    rows = await process.leased(4)
    ours, theirs = await process.together(columns(rows), columns(rows, "other"))
    assert (ours, theirs) == ([APPLIED] * 4, [ReportStatus.NOT_FOUND] * 4)


async def test_a_cancel_request_that_commits_meanwhile_takes_no_completion(
    process: Process,
) -> None:
    """The row that the statement found is another by then: it is completed all the same."""
    rows = await process.leased(5)
    async with await psycopg.AsyncConnection.connect(process.database.url) as canceller:
        await execute(
            canceller,
            "update atlasqueue.leased set cancel_requested = true where fence = %(fence)s",
            fence=rows[2].fence,
        )
        told = asyncio.create_task(process.reporter.report(columns(rows)))

        async def waits() -> bool:
            found = await execute(
                process.looker_on,
                "select pid from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'",
            )
            return len(found) == 1

        await eventually(waits)
        await canceller.commit()
        (answer,) = await told
    assert [reported.status for reported in answer] == [APPLIED] * 5
    assert await process.stored() == {row.fence: "s" for row in rows}


async def test_a_failure_between_the_statements_is_told_and_repeated(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored before it is found by the repeat, and told as what it is."""
    rows = await process.leased(4)
    await process.reporter.report(columns(rows[:1]))
    report_if_fenced = store.report_if_fenced

    async def fails(*_: Any) -> None:
        monkeypatch.setattr(store, "report_if_fenced", report_if_fenced)
        raise DatabaseUnavailable("as the test says")

    monkeypatch.setattr(store, "report_if_fenced", fails)
    with pytest.raises(DatabaseUnavailable):
        await process.reporter.report(columns(rows))
    (answer,) = await process.reporter.report(columns(rows))
    assert answer == [Reported(REPEATED)] * 4
    assert await process.stored() == {row.fence: "s" for row in rows}
