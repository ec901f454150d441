"""A cancel goes down the stream once, behind the job that it is for."""

from __future__ import annotations

from typing import cast

from atlasqueue_server.domain.dispatch import Dispatcher
from atlasqueue_server.domain.sessions import CancelAsked, JobsLeased, OpenSession
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.jobs import LeaseName, Session
from atlasqueue_server.store.database import Database

LEASE = LeaseName("q", "00000000-0000-0000-0000-000000000001", 7)


async def test_a_cancel_that_overtakes_its_lease_is_told_behind_it() -> None:
    """The answer of a lease is long, that of a cancel short. The worker heard of a job that it did not have, and
    on the stream never again.
    """
    dispatcher = Dispatcher(cast(Database, None), Signals())
    opened = OpenSession(Session(1, 1, 30_000), ("q",), 2)
    dispatcher.tell_cancel(opened, LEASE)
    leased = JobsLeased("q", [])
    opened.fences.add(LEASE.fence)
    opened.push(leased)
    # By two looks at the database, which find the request as long as the job is leased.
    for _ in range(2):
        dispatcher.tell_cancel(opened, LEASE)
    assert [await opened.next_event(0) for _ in range(3)] == [leased, CancelAsked(LEASE), None]
