"""What a server remembers from one heartbeat to the next steps over nothing that still has to be looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from atlasqueue_server.domain import heartbeats as beating
from atlasqueue_server.domain.heartbeats import Heartbeats
from atlasqueue_server.model.jobs import HeldJob
from atlasqueue_server.model.states import State
from atlasqueue_server.store.sessions import Extended
from tests.factories import Factory, open_database

QUEUE = "mail"


@dataclass(frozen=True)
class Worker:
    """A session with two leases, and the server that takes its heartbeats."""

    heartbeats: Heartbeats
    session_id: int
    held: list[HeldJob]

    async def beat(self, held: list[HeldJob], last_fence: int) -> Extended:
        """What a heartbeat is answered."""
        extended = await self.heartbeats.beat(self.session_id, 1, held, last_fence)
        assert extended is not None
        return extended


@pytest.fixture
async def worker(migrated_database_url: str) -> AsyncIterator[Worker]:
    """One that has just been leased two jobs."""
    async with open_database(migrated_database_url) as database:
        factory = Factory(database, QUEUE)
        session_id = (await factory.session()).session_id
        await factory.enqueue_many(2)
        rows = await factory.lease(session_id, 2)
        held = [HeldJob(QUEUE, row.job_id, row.fence) for row in rows]
        heartbeats = Heartbeats(database, lambda: 1)
        yield Worker(heartbeats, session_id, held)
        await heartbeats.close()


async def test_a_lease_that_was_lost_on_its_way_goes_back_once_a_later_one_has_arrived(
    worker: Worker,
) -> None:
    """It had a lower fence than all that the worker held, which has not arrived two seconds ago yet. It counted as
    looked at, and for thirty heartbeats, five minutes, nobody looked again.
    """
    lost, arrived = worker.held
    early = await worker.beat([arrived], last_fence=0)
    assert not early.reconciled
    settled = await worker.beat([arrived], last_fence=arrived.fence)
    assert settled.reconciled == [(QUEUE, lost.job_id, State.READY)]


async def test_what_was_held_at_the_last_look_is_looked_at_again(worker: Worker) -> None:
    first, second = worker.held
    await worker.beat([first, second], last_fence=second.fence)
    later = await worker.beat([second], last_fence=second.fence)
    assert later.reconciled == [(QUEUE, first.job_id, State.READY)]


async def test_a_row_that_was_locked_at_its_look_is_found_by_the_next_full_one(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beating, "BEATS_BETWEEN_FULL_LOOKS", 2)
    async with open_database(migrated_database_url) as database:
        at = await Factory(database, QUEUE).job_in(State.LEASED)
        heartbeats = Heartbeats(database, lambda: 0)
        async with database.connection() as other, other.transaction():
            await other.execute("select from atlasqueue.leased for update")
            answers = [await heartbeats.beat(at.session_id, 1, [], at.fence)]
        answers += [await heartbeats.beat(at.session_id, 1, [], at.fence) for _ in range(2)]
        reconciled = [answer.reconciled if answer else None for answer in answers]
        assert reconciled == [[], (), [(QUEUE, at.job_id, State.READY)]]
        await heartbeats.close()
