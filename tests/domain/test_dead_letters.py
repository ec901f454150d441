"""Dead letters page by page, and no more of them moved than was asked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from atlasqueue_server.domain import dead_letters
from atlasqueue_server.domain.dead_letters import DeadLetters
from atlasqueue_server.domain.pages import PageToken
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.jobs import DeadLetterFilter, JobError, OutcomeKind
from atlasqueue_server.model.limits import UNKNOWN_KIND_DELIVERIES_MAX
from atlasqueue_server.model.states import State
from atlasqueue_server.store.queues import get_depth
from tests.factories import Factory, execute, open_database

QUEUE = "mail"
ALL = DeadLetterFilter()


async def test_they_are_listed_and_moved_by_the_piece(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It showed when the code was broken on purpose: no test had more dead letters than were asked for."""
    monkeypatch.setattr(dead_letters, "CHUNK", 2)
    async with open_database(migrated_database_url) as database:
        factory, signals = Factory(database, QUEUE), Signals()
        dead = DeadLetters(database, Queues(database, signals), signals)
        ids = sorted([(await factory.job_in(State.DEAD, kind=kind)).job_id for kind in "aaaab"])

        pages: list[list[str]] = []
        token: PageToken | None = PageToken()
        while token is not None:
            jobs, token = await dead.page(QUEUE, ALL, 2, token)
            pages.append([job.job_id for job in jobs])
        assert pages == [ids[:2], ids[2:4], ids[4:]]
        now = datetime.now(UTC)
        for since, count in ((now - timedelta(hours=1), 0), (now + timedelta(hours=1), 5)):
            jobs, _ = await dead.page(QUEUE, replace(ALL, died_before=since), 9, PageToken())
            assert len(jobs) == count

        of_kind = replace(ALL, kind="a")
        for most, answer in ((3, (3, True)), (4, (4, False)), (9, (4, False))):
            assert await dead.redrive(QUEUE, of_kind, most, dry_run=True) == answer
            assert await dead.purge(QUEUE, of_kind, most, dry_run=True) == answer
        assert await dead.redrive(QUEUE, of_kind, 3, dry_run=False) == (3, True)
        # One that is named twice counts once, and one that is not dead not at all.
        for dry_run in (True, False):
            assert await dead.purge(QUEUE, [*ids, *ids], 10, dry_run=dry_run) == (2, False)
        depth = await get_depth(database, QUEUE)
    assert (depth.ready, depth.dead) == (3, 0)


async def test_each_is_shown_with_its_last_failure(migrated_database_url: str) -> None:
    async with open_database(migrated_database_url) as database:
        factory, signals = Factory(database, QUEUE), Signals()
        dead = DeadLetters(database, Queues(database, signals), signals)
        at = await factory.job_in(State.DEAD)
        assert await dead.redrive(QUEUE, [at.job_id], 1, dry_run=False) == (1, False)
        (row,) = await factory.lease((await factory.session()).session_id)
        last = JobError("Last", "of two", None)
        await factory.report(at.job_id, row.fence, OutcomeKind.REJECT, error=last)
        ((job,), _) = await dead.page(QUEUE, ALL, 9, PageToken())
    assert [failure.error for failure in job.failures] == [last]


async def test_a_redrive_starts_the_count_of_unknown_kinds_again(
    migrated_database_url: str,
) -> None:
    async with open_database(migrated_database_url) as database:
        factory, signals = Factory(database, QUEUE), Signals()
        dead = DeadLetters(database, Queues(database, signals), signals)
        job_id = (await factory.enqueue()).job_id
        async with database.connection() as connection:
            await execute(
                connection,
                "insert into atlasqueue.failures (queue, job_id, fence, attempt, cause, final)"
                " select queue, job_id, nextval('atlasqueue.fence_seq'), 0, 'k', false"
                " from atlasqueue.jobs, generate_series(1, %(most)s)",
                most=UNKNOWN_KIND_DELIVERIES_MAX,
            )
        session_id = (await factory.session()).session_id
        for state, redriven in ((State.DEAD, 1), (State.SCHEDULED, 0)):
            (row,) = await factory.lease(session_id)
            unknown = factory.report(job_id, row.fence, OutcomeKind.UNKNOWN_KIND)
            assert await unknown is state
            assert await dead.redrive(QUEUE, [job_id], 1, dry_run=False) == (redriven, False)
