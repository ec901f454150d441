"""When a stream is pinged."""

from __future__ import annotations

from typing import cast

import pytest

from atlasqueue_server.domain.dispatch import Dispatcher
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.sessions import OpenSession, Pinged
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.domain.workers import PING_MOMENTS, Workers, _first_ping
from atlasqueue_server.model.errors import SessionLost
from atlasqueue_server.model.jobs import Session
from atlasqueue_server.store.database import Database
from tests.waiting import eventually_so

PING_S = 0.02


@pytest.mark.parametrize("opened_at", [0.0, 0.1, 3.999, 4.0, 123_456.789])
def test_the_first_ping_comes_within_the_interval_and_not_much_earlier(opened_at: float) -> None:
    after_s = _first_ping(opened_at, 5.0) - opened_at
    assert 5.0 - 5.0 / PING_MOMENTS - 1e-6 <= after_s <= 5.0


def test_streams_are_pinged_together() -> None:
    """A process that wakes for each of a thousand streams alone spends most of it on waking."""
    moments = {_first_ping(1000 + n * 0.005, 5.0) % 5.0 for n in range(1000)}
    assert len(moments) <= PING_MOMENTS + 1


@pytest.fixture
def opened() -> OpenSession:
    """A stream that nothing happens on."""
    return OpenSession(Session(1, 1, 30_000), ("work",), 1)


@pytest.fixture
def workers() -> Workers:
    """Without a database: streams only live."""
    database, signals = Database(""), Signals()
    dispatcher = Dispatcher(database, signals)
    return Workers(database, cast(Queues, None), dispatcher, signals, "server")


async def test_a_stream_is_pinged_again_and_again_and_ends_with_its_reason(
    workers: Workers, opened: OpenSession
) -> None:
    events = workers.events(opened, PING_S)
    assert [await anext(events) for _ in range(3)] == [Pinged()] * 3
    opened.end(SessionLost("lost"))
    with pytest.raises(SessionLost):
        while True:
            await anext(events)


async def test_pings_do_not_pile_up_for_a_client_that_does_not_read(
    workers: Workers, opened: OpenSession
) -> None:
    events = workers.events(opened, PING_S)
    await anext(events)
    await eventually_so(lambda: opened._events)
    read = workers.events(OpenSession(Session(2, 1, 30_000), ("work",), 1), PING_S)
    for _ in range(3):
        await anext(read)
    assert list(opened._events) == [Pinged()]
