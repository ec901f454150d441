"""What a server remembers from one heartbeat to the next steps over nothing that still has to be looked at."""

from __future__ import annotations

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
