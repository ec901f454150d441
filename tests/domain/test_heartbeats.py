"""What a server remembers from one heartbeat to the next steps over nothing that still has to be looked at."""

from __future__ import annotations

import pytest

from atlasqueue_server.domain import heartbeats as beating
from atlasqueue_server.domain.heartbeats import Heartbeats
from atlasqueue_server.model.jobs import HeldJob
from atlasqueue_server.model.states import State
from tests.factories import Factory, open_database

QUEUE = "mail"


async def test_a_lease_that_was_lost_on_its_way_goes_back_once_a_later_one_has_arrived(
    migrated_database_url: str,
) -> None:
    """It had a lower fence than all that the worker held, which has not arrived two seconds ago yet. It counted as
    looked at, and for thirty heartbeats, five minutes, nobody looked again.
    """
    async with open_database(migrated_database_url) as database:
        factory = Factory(database, QUEUE)
        heartbeats = Heartbeats(database, lambda: 1)
        session_id = (await factory.session()).session_id
        await factory.enqueue_many(2)
        lost, arrived = await factory.lease(session_id, 2)
        held = [HeldJob(QUEUE, arrived.job_id, arrived.fence)]
        early = await heartbeats.beat(session_id, 1, held, last_fence=0)
        assert early is not None
        assert not early.reconciled
        settled = await heartbeats.beat(session_id, 1, held, last_fence=arrived.fence)
        assert settled is not None
        assert settled.reconciled == [(QUEUE, lost.job_id, State.READY)]
        await heartbeats.close()


async def test_what_was_held_at_the_last_look_is_looked_at_again(
    migrated_database_url: str,
) -> None:
    async with open_database(migrated_database_url) as database:
        factory = Factory(database, QUEUE)
        heartbeats = Heartbeats(database, lambda: 1)
        session_id = (await factory.session()).session_id
        await factory.enqueue_many(2)
        first, second = await factory.lease(session_id, 2)
        held = [HeldJob(QUEUE, row.job_id, row.fence) for row in (first, second)]
        await heartbeats.beat(session_id, 1, held, last_fence=second.fence)
        later = await heartbeats.beat(session_id, 1, held[1:], last_fence=second.fence)
        assert later is not None
        assert later.reconciled == [(QUEUE, first.job_id, State.READY)]
        await heartbeats.close()


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
