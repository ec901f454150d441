"""Servers tell each other what they would else find by looking; one that is alone tells nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from atlasqueue_server.domain.links import Links
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.store import cluster
from atlasqueue_server.store.database import Database
from tests.factories import open_database
from tests.waiting import eventually_so


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    """A pool on a migrated database."""
    async with open_database(migrated_database_url) as database:
        yield database


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is sent by NOTIFY from now on."""
    sent: list[str] = []
    notify = cluster.notify

    async def noted(database: Database, message: str) -> None:
        sent.append(message)
        await notify(database, message)

    monkeypatch.setattr(cluster, "notify", noted)
    return sent


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages that servers have made, whether they send them or not, from now on."""
    made: list[str] = []
    take = Signals.take_message

    def noted(signals: Signals, own_id: str) -> str | None:
        message = take(signals, own_id)
        made.extend([message] if message else [])
        return message

    monkeypatch.setattr(Signals, "take_message", noted)
    return made


async def test_a_server_that_is_alone_tells_nobody_until_another_joins(
    database: Database, told: list[str], taken: list[str]
) -> None:
    """It showed in a profile: of the CPU that a lone server spent on unary enqueues, a twentieth went into
    NOTIFYs that only it heard."""
    one, other = Signals(), Signals()
    heard: list[str] = []
    other.ready.append(heard.append)
    links = Links(database, one, "one")
    await links.start("127.0.0.1:1", "0")
    await eventually_so(lambda: links.alone)
    del told[:], taken[:]
    one.jobs_ready(["mail"])
    await eventually_so(lambda: any("mail" in message for message in taken))
    assert told == []

    joining = Links(database, other, "other")
    await joining.start("127.0.0.1:2", "0")
    await eventually_so(lambda: not links.alone and not joining.alone)

    def other_hears() -> bool:
        one.jobs_ready(["mail"])
        return "mail" in heard

    await eventually_so(other_hears)
    await joining.stop()
    await eventually_so(lambda: links.alone)
    await links.stop()


async def test_a_server_that_has_started_is_in_the_cluster(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It showed once in CI: of two processes that said that they serve, GetCluster knew one."""
    may_record = asyncio.Event()
    record = cluster.record_server

    async def record_late(*what: Any) -> bool:
        await may_record.wait()
        return await record(*what)

    monkeypatch.setattr(cluster, "record_server", record_late)
    links = Links(database, Signals(), "one")
    starting = asyncio.create_task(links.start("127.0.0.1:1", "0"))
    try:
        started, _ = await asyncio.wait({starting}, timeout=0.1)
        assert not started
        may_record.set()
        await starting
        rows = await cluster.get_cluster(database, 60)
        assert [row.server_id for row in rows] == ["one"]
    finally:
        await links.stop()
