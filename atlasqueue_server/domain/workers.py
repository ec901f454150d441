"""A worker's session: open, reopen, heartbeat, reconcile."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from atlasqueue_server.domain.dispatch import Dispatcher
from atlasqueue_server.domain.heartbeats import EPOCH_MAX, Heartbeats
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.sessions import Event, JobsLeased, OpenSession, Pinged
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import (
    SessionLost,
    SessionSuperseded,
    ShuttingDown,
    Unavailable,
)
from atlasqueue_server.model.jobs import HeldJob, Session
from atlasqueue_server.model.states import State
from atlasqueue_server.store import sessions as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.lease import LeasedRow

# How long LeaseOnce waits for its first look even if it was asked not to wait.
FIRST_LOOK_S = 2.0
# How long it waits for the next batch of a queue that has more.
NEXT_BATCH_S = 0.25
# A thousand idle streams are pinged at this many moments of the interval, some twenty together: a process
# that wakes for each alone spends more on waking than on the ping. With fewer moments a job that comes
# during one would wait for a hundred pings and more.
PING_MOMENTS = 50
PING = Pinged()


def _first_ping(now: float, ping_s: float) -> float:
    """When a stream is pinged first: at a moment that it shares, no later than `ping_s` from `now`."""
    step = ping_s / PING_MOMENTS
    return (now + ping_s) // step * step


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """What a worker asks for; session_id 0 for a new session."""

    queues: tuple[str, ...]
    slots: int
    worker: str
    session_id: int = 0
    epoch: int = 0
    last_fence: int = 0


class Workers:
    """Sessions of workers."""

    def __init__(
        self,
        database: Database,
        queues: Queues,
        dispatcher: Dispatcher,
        signals: Signals,
        server_id: str,
        stream_age_s: float = math.inf,
        journal: Journal | None = None,
        heartbeats: Heartbeats | None = None,
    ) -> None:
        self._journal = journal or Journal()
        self._stream_age_s = stream_age_s
        self._database = database
        self._queues = queues
        self._dispatcher = dispatcher
        self.heartbeats = heartbeats or Heartbeats(database, lambda: len(dispatcher.sessions))
        self._signals = signals
        self._server_id = server_id

    async def open(self, terms: LeaseTerms) -> OpenSession:
        """Opens a stream for a new session or one that goes on.

        Raises SessionLost, SessionSuperseded, TooManyQueues, ShuttingDown.
        """
        if self._dispatcher.draining:
            raise ShuttingDown()
        await self._queues.ensure_all(terms.queues)
        asked = store.SessionTerms(terms.queues, terms.slots, terms.worker, self._server_id, True)
        if not terms.session_id:
            session = await store.open_session(self._database, asked)
            return self._dispatcher.add(session, terms.queues, terms.slots, streaming=True)
        reopened = await store.reopen_session_if_live(
            self._database, terms.session_id, terms.epoch, asked
        )
        if reopened is None:
            raise await self._why_not_live(terms.session_id, terms.epoch, reopening=True)
        self._signals.session_reopened(terms.session_id, reopened.epoch)
        opened = self._dispatcher.add(reopened, terms.queues, 0, streaming=True)
        try:
            await self._release_undelivered(terms)
            opened.fences |= await store.list_fences_of_session(self._database, terms.session_id)
        except BaseException:
            self.close(opened)
            raise
        opened.slots = terms.slots
        self._dispatcher.slots_changed(opened)
        return opened

    async def _release_undelivered(self, terms: LeaseTerms) -> None:
        # What the older stream carried above last_fence will never reach the worker.
        released = await store.release_undelivered(
            self._database, terms.session_id, terms.last_fence
        )
        self._signals.jobs_ready({queue for queue, _, _ in released})

    def close(self, opened: OpenSession) -> None:
        """The stream has ended; the session lives on until its visibility timeout."""
        self._dispatcher.remove(opened)
        self._dispatcher.close_stream(opened, self._server_id)

    async def events(self, opened: OpenSession, ping_s: float) -> AsyncIterator[Event]:
        """The stream's events, with a ping each `ping_s`. Raises what ended the session."""
        loop = asyncio.get_running_loop()
        away_at = loop.time() + self._stream_age_s * random.uniform(0.8, 1.0)  # noqa: S311
        ping_at = _first_ping(loop.time(), ping_s)
        timer = loop.call_at(ping_at, opened.push, PING)
        try:
            while True:
                if not opened.ended and loop.time() >= away_at:
                    self._dispatcher.send_away(opened, "streams are renewed now and then")
                event = await opened.next_event()
                if event is PING:
                    ping_at = max(ping_at + ping_s, loop.time())
                    timer = loop.call_at(ping_at, opened.push, PING)
                if event is not None:
                    yield event
                elif opened.closed is not None:
                    raise opened.closed
                else:
                    return
        finally:
            timer.cancel()

    async def lease_once(
        self, terms: LeaseTerms, wait_s: float
    ) -> tuple[Session, list[tuple[str, LeasedRow]]]:
        """The session and up to `terms.slots` (queue, job), as soon as there is one, within `wait_s`.

        Raises SessionLost, TooManyQueues, ShuttingDown.
        """
        if self._dispatcher.draining:
            raise ShuttingDown()
        await self._queues.ensure_all(terms.queues)
        session = await self._session_for_once(terms)
        opened = self._dispatcher.add(session, terms.queues, terms.slots, streaming=False)
        jobs: list[tuple[str, LeasedRow]] = []
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_LOOK_S):
                    await opened.looked.wait()
            event = await self._first_event(opened, wait_s)
            while isinstance(event, JobsLeased):
                jobs += [(event.queue, row) for row in event.rows]
                more = self._dispatcher.has_backlog(opened) and self._fits(jobs)
                event = await opened.next_event(NEXT_BATCH_S if more else 0)
            return session, self._fitting(jobs)
        except asyncio.CancelledError:
            for queue, row in jobs:
                self._dispatcher.give_back(queue, [row])
            raise
        finally:
            self._dispatcher.remove(opened)

    async def _first_event(self, opened: OpenSession, wait_s: float) -> Event | None:
        """The first event of a poll. While it waits the open call is the session's sign of life: who has called does
        not even know a new session yet. Raises SessionLost.
        """
        clock = asyncio.get_running_loop().time
        ends_at = clock() + wait_s
        timeout_s = opened.session.visibility_timeout_ms / 1000
        beat_s = timeout_s / limits.HEARTBEATS_PER_VISIBILITY_TIMEOUT
        while not opened.ended and ends_at - clock() > beat_s:
            if (event := await opened.next_event(beat_s)) is not None:
                return event
            # Without a database nothing expires either.
            with contextlib.suppress(Unavailable):
                if not await self.heartbeats.keep_alive(opened.session_id):
                    raise await self._why_not_live(opened.session_id, EPOCH_MAX)
        return await opened.next_event(max(0.0, ends_at - clock()))

    def _fits(self, jobs: list[tuple[str, LeasedRow]]) -> bool:
        return sum(row.wire_bytes for _, row in jobs) < limits.MESSAGE_CUT_BYTES

    def _fitting(self, jobs: list[tuple[str, LeasedRow]]) -> list[tuple[str, LeasedRow]]:
        """Those that one message can carry; the others go back to ready."""
        size = 0
        for at, (_, row) in enumerate(jobs):
            size += row.wire_bytes
            if at and size > limits.MESSAGE_CUT_BYTES:
                for queue, unsent in jobs[at:]:
                    self._dispatcher.give_back(queue, [unsent])
                return jobs[:at]
        return jobs

    async def _session_for_once(self, terms: LeaseTerms) -> Session:
        if not terms.session_id:
            asked = store.SessionTerms(
                terms.queues, terms.slots, terms.worker, self._server_id, False
            )
            return await store.open_session(self._database, asked)
        idle = store.IdleSession(terms.session_id, EPOCH_MAX, 0)
        (extended,) = await store.extend_idle(self._database, [idle])
        if extended is None:
            raise await self._why_not_live(terms.session_id, EPOCH_MAX)
        return Session(terms.session_id, 1, extended.visibility_timeout_ms)

    async def heartbeat(
        self, session_id: int, epoch: int, held: Sequence[HeldJob], last_fence: int
    ) -> store.Extended:
        """Extends a session and reconciles what it holds. Raises SessionLost, SessionSuperseded."""
        extended = await self.heartbeats.beat(session_id, epoch, held, last_fence)
        if extended is None:
            raise await self._why_not_live(session_id, epoch)
        if extended.reconciled:
            self._journal.reconciled(session_id, extended.reconciled)
            self._signals.jobs_ready(
                {queue for queue, _, state in extended.reconciled if state is State.READY}
            )
            self._signals.slots_freed(session_id)
        return extended

    async def _why_not_live(
        self, session_id: int, epoch: int, *, reopening: bool = False
    ) -> SessionLost | SessionSuperseded:
        found = await store.get_session(self._database, session_id)
        if found is not None and not found[1] and (found[0] > epoch or reopening):
            return SessionSuperseded(
                f"session {session_id} was opened with epoch {found[0]}; epoch {epoch} is too low"
            )
        return SessionLost(
            f"session {session_id} is lost: open a new one, and drop what this one held"
        )
