"""A cancel goes down the stream once, behind the job that it is for; and leases that arrive are counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest

from atlasqueue_server.domain import dispatch
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
    leased = JobsLeased("q", [], 0)
    opened.fences.add(LEASE.fence)
    opened.push(leased)
    # By two looks at the database, which find the request as long as the job is leased.
    for _ in range(2):
        dispatcher.tell_cancel(opened, LEASE)
    assert [await opened.next_event(0) for _ in range(3)] == [leased, CancelAsked(LEASE), None]


async def test_a_lease_that_arrives_while_leases_are_counted_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not in the statement's snapshot; forgotten, its slot would count as free."""
    opened = OpenSession(Session(1, 1, 30_000), ("q",), 10)
    opened.fences |= {1, 2}

    async def count(_: Database, floors: Mapping[int, int]) -> dict[int, set[int]]:
        assert list(floors) == [1]
        opened.fences.add(3)
        return {1: {2}}

    monkeypatch.setattr(dispatch, "list_fences_of_sessions", count)
    await Dispatcher(cast(Database, None), Signals()).recount([opened])
    assert opened.fences == {2, 3}
