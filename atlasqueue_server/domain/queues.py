"""Queues: they come into being on first use; policy, pause, resume, depth."""

from __future__ import annotations

from collections.abc import Iterable

from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import QueueNotFound, TooManyQueues
from atlasqueue_server.model.jobs import Depth, Queue, QueuePolicy
from atlasqueue_server.store import queues as store
from atlasqueue_server.store.database import Database


class Queues:
    """The queues of the database; knows the names that it has seen over the links that there are.

    Names never go away, except in a failover to a standby that had not received them.
    """

    def __init__(self, database: Database, signals: Signals) -> None:
        self._database = database
        self._signals = signals
        self._known: set[str] = set()
        self._known_of = 0

    async def ensure(self, names: Iterable[str]) -> frozenset[str]:
        """Creates the queues that do not exist; returns those for which there is no room."""
        links = self._database.links_made
        if links != self._known_of:
            self._known, self._known_of = set(), links
        known = self._known
        unknown = sorted(set(names) - known)
        if not unknown:
            return frozenset()
        there = set(await store.create_queues_if_room(self._database, unknown))
        if rest := [name for name in unknown if name not in there]:
            there.update(q.name for q in await store.get_queues(self._database, rest))
        # Into the set of these links, which may be forgotten by now.
        known.update(there)
        return frozenset(name for name in unknown if name not in there)

    async def ensure_all(self, names: Iterable[str]) -> None:
        """Creates the queues that do not exist. Raises TooManyQueues."""
        if refused := await self.ensure(names):
            raise too_many_queues(min(refused))

    async def get(self, name: str) -> Queue:
        """A queue. Raises QueueNotFound."""
        found = await store.get_queues(self._database, [name])
        if not found:
            raise QueueNotFound(f"no queue named {name}")
        return found[0]

    async def page(self, after: str, most: int) -> list[Queue]:
        """Up to `most` queues by name, above `after`."""
        return await store.list_queues(self._database, after, most)

    async def update_policy(self, name: str, policy: QueuePolicy, fields: frozenset[str]) -> Queue:
        """Sets the named fields of the policy. Raises TooManyQueues."""
        await self.ensure_all([name])
        return self._changed(
            await store.update_queue_policy(self._database, name, policy, fields), name
        )

    async def pause(self, name: str) -> Queue:
        """Stops leases from the queue. Raises TooManyQueues."""
        await self.ensure_all([name])
        return self._changed(await store.pause_queue(self._database, name), name)

    async def resume(self, name: str) -> Queue:
        """Allows leases from the queue again. Raises TooManyQueues."""
        await self.ensure_all([name])
        queue = self._changed(await store.resume_queue(self._database, name), name)
        self._signals.jobs_ready([name])
        return queue

    async def depth(self, name: str) -> Depth:
        """Jobs by state. Raises QueueNotFound."""
        await self.get(name)
        return await store.get_depth(self._database, name)

    def _changed(self, queue: Queue | None, name: str) -> Queue:
        if queue is None:
            raise QueueNotFound(f"no queue named {name}")
        self._signals.queue_updated(name)
        return queue


def too_many_queues(name: str) -> TooManyQueues:
    """The error for a name for which there is no room."""
    return TooManyQueues(f"{limits.QUEUES_MAX} queues exist, no room for {name}: reuse one of them")
