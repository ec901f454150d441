"""A failover to a standby that had not received everything: queues that servers know may be gone."""

from __future__ import annotations

from typing import Any

from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.errors import Unavailable
from atlasqueue_server.store.cluster import ping
from atlasqueue_server.store.database import Database
from tests.factories import execute
from tests.waiting import eventually

PRIMARY_IS_GONE = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
    """


async def test_a_queue_that_a_failover_lost_comes_into_being_again(
    database: Database, connection: Any
) -> None:
    """Servers took it that names never go away: no worker could open a session for the queue (INTERNAL), and what was
    enqueued into it no lease ever found, until each of them was started anew.
    """

    async def answers() -> bool:
        try:
            return await ping(database)
        except Unavailable:
            return False

    queues = Queues(database, Signals())
    await queues.ensure_all(["mail"])
    await execute(connection, "delete from atlasqueue.queues")
    await execute(connection, PRIMARY_IS_GONE)
    await eventually(answers)
    await queues.ensure_all(["mail"])
    assert await execute(connection, "select name from atlasqueue.queues") == [("mail",)]
