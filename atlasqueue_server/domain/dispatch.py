"""Sessions and lanes of one process: who waits for jobs, and which lane serves whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from atlasqueue_server.domain.lease import Lane
from atlasqueue_server.domain.sessions import CancelAsked, OpenSession, WentAway
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.errors import AtlasQueueError, SessionLost, SessionSuperseded
from atlasqueue_server.model.jobs import LeaseName, Outcome, OutcomeKind, Session
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.lease import LeasedRow
from atlasqueue_server.store.report import report_if_fenced
from atlasqueue_server.store.sessions import list_fences_of_session


class Dispatcher:
    """Hands leased jobs to open sessions, never more than their slots."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        observe: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._database = database
        self._signals = signals
        self._observe = observe
        self._lanes: dict[str, tuple[Lane, asyncio.Task[None]]] = {}
        self._by_id: dict[int, OpenSession] = {}
        self._polls: set[OpenSession] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False
        signals.ready.append(self._jobs_ready)
        signals.freed.append(self._slots_freed)
        signals.lost.append(self._session_lost)
        signals.cancel.append(self._cancel_requested)

    @property
    def sessions(self) -> Iterable[OpenSession]:
        """The sessions whose streams are open here."""
        return self._by_id.values()

    def add(
        self, session: Session, queues: Sequence[str], slots: int, *, streaming: bool
    ) -> OpenSession:
        """Starts to lease for a session. A stream takes the place of an older one of the session."""
        opened = OpenSession(session, tuple(queues), slots)
        if streaming:
            if older := self._by_id.get(session.session_id):
                self.remove(older, SessionSuperseded("the session was opened again"))
            self._by_id[session.session_id] = opened
        else:
            self._polls.add(opened)
        for queue in opened.queues:
            lane = self._lane(queue)
            lane.sessions[opened] = None
            lane.jobs_ready()
        return opened

    def remove(self, opened: OpenSession, error: AtlasQueueError | None = None) -> None:
        """Stops to lease for a session; what was leased but not written goes back to ready."""
        opened.end(error)
        self._polls.discard(opened)
        if self._by_id.get(opened.session_id) is opened:
            del self._by_id[opened.session_id]
        for queue in opened.queues:
            entry = self._lanes.get(queue)
            if entry is None:
                continue
            lane, task = entry
            lane.sessions.pop(opened, None)
            if not lane.sessions:
                # The lane of an idle queue costs nothing but its poll; without sessions not even that.
                del self._lanes[queue]
                self._retire(task, lane)
        for waiting in opened.undelivered():
            self.give_back(waiting.queue, waiting.rows)

    def _retire(self, task: asyncio.Task[None], lane: Lane) -> None:
        async def retire() -> None:
            await lane.quiesce()
            task.cancel()

        self.spawn(retire())

    def _lane(self, queue: str) -> Lane:
        if queue not in self._lanes:
            lane = Lane(self._database, queue, self.give_back, self._credit_returned, self._observe)
            self._lanes[queue] = lane, asyncio.get_running_loop().create_task(lane.run())
        return self._lanes[queue][0]

    def give_back(self, queue: str, rows: Sequence[LeasedRow]) -> None:
        """Leases that no stream will carry go back to ready without spending an attempt."""
        outcomes = [
            Outcome(queue, row.job_id, row.fence, OutcomeKind.RELEASE)
            for row in sorted(rows, key=lambda r: r.job_id)
        ]

        async def release() -> None:
            await report_if_fenced(self._database, {(queue, OutcomeKind.RELEASE): outcomes})
            self._signals.jobs_ready([queue])

        self.spawn(release())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs work that nobody waits for until close."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # A release that failed is repeated by expiry; there is nobody to tell.
            task.exception()

    def outcome_stored(self, session_id: int | None, fences: Iterable[int]) -> None:
        """These leases have ended: their slots are free."""
        opened = self._by_id.get(session_id) if session_id else None
        if opened is None:
            if session_id:
                self._signals.slots_freed(session_id)
            return
        opened.fences.difference_update(fences)
        self._wake(opened)

    async def recount(self, opened: OpenSession) -> None:
        """Takes the session's leases from the database: another server or the scheduler ended some."""
        before = set(opened.fences)
        stored = await list_fences_of_session(self._database, opened.session_id)
        # A lease that arrived while the statement ran is not in its snapshot.
        opened.fences -= before - stored
        self._wake(opened)

    def slots_changed(self, opened: OpenSession) -> None:
        """The session may have credit now."""
        self._wake(opened)

    def _wake(self, opened: OpenSession) -> None:
        if opened.credit > 0:
            for queue in opened.queues_in_turn():
                if entry := self._lanes.get(queue):
                    entry[0].credit_freed()

    def _credit_returned(self, opened: OpenSession, queue: str) -> None:
        for other in opened.queues:
            if other != queue and (entry := self._lanes.get(other)):
                entry[0].credit_freed()

    def _jobs_ready(self, queue: str) -> None:
        if entry := self._lanes.get(queue):
            entry[0].jobs_ready()

    def _slots_freed(self, session_id: int) -> None:
        if opened := self._by_id.get(session_id):
            self.spawn(self.recount(opened))

    def _session_lost(self, session_id: int) -> None:
        if opened := self._by_id.get(session_id):
            self.remove(
                opened,
                SessionLost(f"session {session_id} sent no heartbeat in its visibility timeout"),
            )

    def _cancel_requested(self, session_id: int, lease: LeaseName) -> None:
        if opened := self._by_id.get(session_id):
            opened.push(CancelAsked(lease))

    def drain(self) -> None:
        """Grants no more leases; every stream is told to go away and ends, polls answer what they have."""
        self.draining = True
        for poll in self._polls:
            self.remove_quietly(poll)
        for opened in list(self._by_id.values()):
            opened.push(WentAway("the server is shutting down"))
            self.remove_quietly(opened)

    def remove_quietly(self, opened: OpenSession) -> None:
        """Ends a stream after the events that wait have been written."""
        opened.end()
        for queue in opened.queues:
            if entry := self._lanes.get(queue):
                entry[0].sessions.pop(opened, None)

    async def close(self) -> None:
        """Stops the lanes and waits for what they began."""
        for lane, task in self._lanes.values():
            await lane.quiesce()
            task.cancel()
        await asyncio.gather(*(task for _, task in self._lanes.values()), return_exceptions=True)
        self._lanes.clear()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
