"""A heartbeat is one transaction: whoever gives up a session waits until what it holds is reconciled. And for how
long a session lives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atlasqueue_server.model.errors import DatabaseUnavailable
from atlasqueue_server.model.jobs import HeldJob, QueuePolicy
from atlasqueue_server.model.states import State
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.queues import get_depth, update_queue_policy
from atlasqueue_server.store.sessions import (
    Extended,
    IdleSession,
    SessionTerms,
    extend_idle,
    heartbeat,
    open_session,
    reopen_session_if_live,
)
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


async def test_what_is_not_held_goes_back_whatever_queue_it_is_of(
    database: Database, factory: Factory
) -> None:
    """Only the queues for which the session was opened last were looked into: a job that was lost on its way from
    another one, by a LeaseOnce say, stayed leased for as long as its worker lived.
    """
    at = await factory.job_in(State.LEASED)
    other = Factory(database, "post")
    job = await other.enqueue()
    (row,) = await other.lease(at.session_id)
    held = [HeldJob(at.queue, at.job_id, at.fence)]
    extended = await heartbeat(database, at.session_id, 1, held, row.fence)
    assert extended is not None
    assert extended.reconciled == [("post", job.job_id, State.READY)]
    assert (await get_depth(database, "post")).ready == 1
    assert (await get_depth(database, at.queue)).leased == 1


async def test_a_session_that_is_opened_again_keeps_the_time_that_it_was_told(
    database: Database, connection: Any, factory: Factory
) -> None:
    """The visibility timeout had been lowered, and the next heartbeat was a third of the older one away: the session
    was lost before, and its jobs, which ran, counted a crash.
    """
    session_id = (await factory.session()).session_id
    [(told,)] = await execute(connection, EXPIRES_AT, id=session_id)
    policy = QueuePolicy(visibility_timeout_ms=1000)
    fields = frozenset({"visibility_timeout_ms"})
    assert await update_queue_policy(database, factory.queue, policy, fields)
    terms = SessionTerms((factory.queue,), 10, "worker", "server-of-tests", True)
    reopened = await reopen_session_if_live(database, session_id, 2, terms)
    assert reopened is not None
    assert reopened.visibility_timeout_ms == 1000
    assert await execute(connection, EXPIRES_AT, id=session_id) == [(told,)]
    extended = await heartbeat(database, session_id, 2, [], 0)
    assert extended is not None
    assert await execute(connection, EXPIRES_AT, id=session_id) < [(told,)]


async def test_heartbeats_of_idle_sessions_extend_those_that_live(
    database: Database, connection: Any, factory: Factory
) -> None:
    """They are one statement together. It showed when that was broken on purpose: nothing failed when it
    extended a session that was lost or had been opened again elsewhere."""
    alive, lost, superseded, opening = [(await factory.session()).session_id for _ in range(4)]
    held, before = [await factory.job_in(State.LEASED) for _ in range(2)]
    await Factory(database, "slow").enqueue()
    policy = QueuePolicy(visibility_timeout_ms=90_000)
    assert await update_queue_policy(database, "slow", policy, frozenset({"visibility_timeout_ms"}))
    terms = SessionTerms((factory.queue, "slow"), 10, "worker", "a server that is gone", True)
    patient = await open_session(database, terms)
    assert patient.visibility_timeout_ms == 90_000
    for change, session_id in (("lost = true", lost), ("epoch = 3", superseded)):
        await execute(
            connection,
            f"update atlasqueue.sessions set {change} where session_id = %(id)s",
            id=session_id,
        )
    times = "select session_id, expires_at from atlasqueue.sessions"
    told = dict(await execute(connection, times))

    answers = await extend_idle(
        database,
        [
            IdleSession(alive, 1, 0),
            IdleSession(lost, 1, 0),
            IdleSession(superseded, 2, 0),
            IdleSession(opening, 2, 0),
            IdleSession(held.session_id, 1, held.fence - 1),
            IdleSession(before.session_id, 1, before.fence),
            IdleSession(patient.session_id, 1, 0),
            # Twice, as by a keep_alive beside it: what either has to look for is looked for.
            IdleSession(held.session_id, 1, held.fence),
        ],
    )

    idle, leased = Extended(30_000, False), Extended(30_000, False, leased=True)
    assert answers == [idle, None, None, idle, leased, idle, Extended(90_000, False), leased]
    moved = {at for at, expires_at in await execute(connection, times) if expires_at > told[at]}
    assert moved == set(told) - {lost, superseded}

    # The longest timeout of its queues counts however it is heard.
    reopened = await reopen_session_if_live(database, patient.session_id, 2, terms)
    assert reopened is not None
    assert reopened.visibility_timeout_ms == 90_000
    heard = await heartbeat(database, patient.session_id, 2, [], 0)
    assert heard is not None
    assert heard.visibility_timeout_ms == 90_000
