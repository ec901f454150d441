"""A heartbeat is one transaction: whoever gives up a session waits until what it holds is reconciled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.model.jobs import HeldJob
from atlasqueue_server.model.states import State
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.sessions import heartbeat
from tests.factories import Factory, execute
from tests.waiting import eventually

EXPIRES_AT = "select expires_at from atlasqueue.sessions where session_id = %(id)s"
FREE = "select 1 from atlasqueue.sessions where session_id = %(id)s for no key update skip locked"
WAITING = """
select pid from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and application_name = 'atlasqueue-server'
"""


async def test_it_is_one_transaction(database: Database, connection: Any, factory: Factory) -> None:
    """How it would show: a heartbeat of several commits extends the session, and is then too late to say
    what of it was lost."""
    lease = await factory.job_in(State.LEASED)
    held = HeldJob(lease.queue, lease.job_id, lease.fence, note="half of it")
    [(before,)] = await execute(connection, EXPIRES_AT, id=lease.session_id)
    async with database.connection() as blocker, blocker.transaction():
        await blocker.execute("select 1 from atlasqueue.leased for update")
        beat = asyncio.create_task(heartbeat(database, lease.session_id, 1, [held], lease.fence))
        [(pid,)] = await eventually(lambda: execute(connection, WAITING))
        assert await execute(connection, FREE, id=lease.session_id) == []
        await execute(connection, "select pg_cancel_backend(%(pid)s)", pid=pid)
        with pytest.raises(DatabaseUnavailable):
            await beat
    assert await execute(connection, EXPIRES_AT, id=lease.session_id) == [(before,)]
    assert await execute(connection, "select * from atlasqueue.checkpoints") == []
    extended = await heartbeat(database, lease.session_id, 1, [held], lease.fence)
    assert extended is not None
    assert not extended.lost
    assert [(before,)] < await execute(connection, EXPIRES_AT, id=lease.session_id)
