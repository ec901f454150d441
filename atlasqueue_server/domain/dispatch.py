"""Sessions and lanes of one process: who waits for jobs, and which lane serves whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any

from atlasqueue_server.domain import supervise
from atlasqueue_server.domain.lease import Lane
from atlasqueue_server.domain.sessions import CancelAsked, OpenSession, WentAway
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model.errors import (
    AtlasQueueError,
    SessionLost,
    SessionSuperseded,
    ShuttingDown,
    Unavailable,
)
from atlasqueue_server.model.jobs import LeaseName, Outcome, OutcomeKind, Session
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.lease import LeasedRow
from atlasqueue_server.store.report import report_if_fenced
from atlasqueue_server.store.sessions import close_stream_if_newest, list_fences_of_sessions

SHUTTING_DOWN = "the server is shutting down"
KNOWN_FOR_S = 5.0
RECOUNT_GATHER_S = 0.005
CLOSE_S = 5.0
# How long work that nobody waits for is tried again while the database does not answer.
TRIES_MAX = 30
TRIES_WAIT_S = 1.0


async def _again_while_unavailable(work: Callable[[], Awaitable[None]]) -> None:
    for tries_left in reversed(range(TRIES_MAX)):
        try:
            return await work()
        except ShuttingDown:
            raise
        except Unavailable:
            if not tries_left:
                raise
        await asyncio.sleep(TRIES_WAIT_S)
    return None


class Dispatcher:
    """Hands leased jobs to open sessions, never more than their slots."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        journal: Journal | None = None,
    ) -> None:
        self._database = database
        self._signals = signals
        self._journal = journal or Journal()
        self._lanes: dict[str, tuple[Lane, asyncio.Task[None]]] = {}
        self._by_id: dict[int, OpenSession] = {}
        self._polls: set[OpenSession] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_recount: dict[OpenSession, None] = {}
        self._looked_at: float | None = None
        self.draining = False
        signals.ready.append(self._jobs_ready)
        signals.freed.append(self._slots_freed)
        signals.lost.append(self._session_lost)
        signals.cancel.append(self._cancel_requested)
        signals.reopened.append(self._session_reopened)

    @property
    def lanes(self) -> int:
        """How many queues are leased from."""
        return len(self._lanes)

    @property
    def sessions(self) -> Collection[OpenSession]:
        """The sessions whose streams are open here."""
        return self._by_id.values()

    def add(
        self, session: Session, queues: Sequence[str], slots: int, *, streaming: bool
    ) -> OpenSession:
        """Starts to lease for a session. A stream takes the place of an older one of the session.

        Raises SessionSuperseded when a newer one is open.
        """
        opened = OpenSession(session, tuple(queues), slots)
        if streaming:
            if older := self._by_id.get(session.session_id):
                if older.session.epoch > session.epoch:
                    raise SessionSuperseded(f"epoch {session.epoch} is too low")
                self.remove(older, SessionSuperseded("the session was opened again"))
            self._by_id[session.session_id] = opened
        else:
            self._polls.add(opened)
        for queue in opened.queues:
            lane = self._lane(queue)
            lane.sessions[opened] = None
            lane.jobs_ready()
        if self.draining:
            self.send_away(opened, SHUTTING_DOWN)
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
            await supervise.stop(task)

        self.spawn(retire())

    def _lane(self, queue: str) -> Lane:
        if queue not in self._lanes:
            lane = Lane(
                self._database,
                queue,
                self.give_back,
                self._credit_returned,
                self._journal,
                self.knows_its_sessions,
            )
            self._lanes[queue] = lane, supervise.start(f"lane {queue}", lane.run)
        return self._lanes[queue][0]

    def free_lane(self, queue: str) -> Lane | None:
        """The queue's lane, if a lease of it would leave at once and alone."""
        entry = self._lanes.get(queue)
        return entry[0] if entry and entry[0].free else None

    def give_back(self, queue: str, rows: Sequence[LeasedRow]) -> None:
        """Leases that no stream will carry go back to ready without spending an attempt."""
        outcomes = [
            Outcome(queue, row.job_id, row.fence, OutcomeKind.RELEASE)
            for row in sorted(rows, key=lambda r: r.job_id)
        ]

        async def release() -> None:
            groups = {(queue, OutcomeKind.RELEASE): outcomes}
            self._journal.reported(groups, await report_if_fenced(self._database, groups))
            self._signals.jobs_ready([queue])

        self.spawn(_again_while_unavailable(release))

    def close_stream(self, opened: OpenSession, server_id: str) -> None:
        """Notes that the session has no stream any more, unless a newer one was opened."""

        async def close() -> None:
            await close_stream_if_newest(
                self._database, opened.session_id, opened.session.epoch, server_id
            )

        self.spawn(_again_while_unavailable(close))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs work that nobody waits for until close."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # What was not released is reconciled by the worker's heartbeats, or expires.
            task.exception()

    def outcome_stored(self, session_id: int, fences: Iterable[int]) -> None:
        """These leases have ended: their slots are free. `session_id` 0: whose they were is not known."""
        opened = self._by_id.get(session_id)
        if opened is None:
            if session_id:
                self._signals.slots_freed(session_id)
            return
        opened.fences.difference_update(fences)
        if opened.cancels_told:
            opened.cancels_told.difference_update(fences)
        self._wake(opened)

    async def recount(self, opened: Sequence[OpenSession]) -> None:
        """Takes sessions' leases from the database: another server or the scheduler ended some."""
        before = {session.session_id: set(session.fences) for session in opened}
        floors = {session.session_id: session.fence_floor for session in opened}
        stored = await list_fences_of_sessions(self._database, floors)
        for session in opened:
            # A lease that arrived while the statement ran is not in its snapshot.
            session.fences -= before[session.session_id] - stored[session.session_id]
            session.cancels_told &= session.fences
            self._wake(session)

    def slots_changed(self, opened: OpenSession) -> None:
        """The session may have credit now."""
        self._wake(opened)

    def _wake(self, opened: OpenSession) -> None:
        if opened.credit > 0:
            for queue in opened.queues_in_turn():
                if entry := self._lanes.get(queue):
                    entry[0].credit_freed()

    def _credit_returned(self, opened: OpenSession, queue: str) -> None:
        for other in opened.queues_after(queue):
            if entry := self._lanes.get(other):
                entry[0].credit_freed()

    def _jobs_ready(self, queue: str) -> None:
        if entry := self._lanes.get(queue):
            entry[0].jobs_ready()

    def _slots_freed(self, session_id: int) -> None:
        if opened := self._by_id.get(session_id):
            self._to_recount[opened] = None
            if len(self._to_recount) == 1:
                self.spawn(self._recount_gathered())

    async def _recount_gathered(self) -> None:
        # Signals of a moment are one statement; each lists all that its session holds.
        await asyncio.sleep(RECOUNT_GATHER_S)
        opened = list(self._to_recount)
        self._to_recount.clear()
        await self.recount(opened)

    def _session_reopened(self, session_id: int, epoch: int) -> None:
        opened = self._by_id.get(session_id)
        if opened is not None and opened.session.epoch < epoch:
            self.remove(opened, SessionSuperseded(f"session {session_id} has epoch {epoch}"))

    def looked(self, at: float) -> None:
        """All open sessions were compared with the database at `at`, monotonic seconds."""
        stale = not self.knows_its_sessions()
        self._looked_at = at
        if stale:
            for lane, _ in self._lanes.values():
                lane.jobs_ready()

    def knows_its_sessions(self) -> bool:
        """Whether sessions were compared of late. A process that stood still first has to look whose
        streams went elsewhere meanwhile, or it would lease for workers that do not listen any more."""
        return self._looked_at is None or time.monotonic() - self._looked_at < KNOWN_FOR_S

    def has_backlog(self, opened: OpenSession) -> bool:
        """Whether the session will get more at once: a queue of it has more, and it has a free slot."""
        lanes = (entry[0] for queue in opened.queues if (entry := self._lanes.get(queue)))
        return len(opened.fences) < opened.slots and any(lane.backlog for lane in lanes)

    def _session_lost(self, session_id: int) -> None:
        if opened := self._by_id.get(session_id):
            self.remove(
                opened,
                SessionLost(f"session {session_id} sent no heartbeat in its visibility timeout"),
            )

    def _cancel_requested(self, session_id: int, lease: LeaseName) -> None:
        if opened := self._by_id.get(session_id):
            self.tell_cancel(opened, lease)

    def tell_cancel(self, opened: OpenSession, lease: LeaseName) -> None:
        """Tells a worker of a cancel, once, of a job that it has or that is on its way to it.

        A cancel may be known here before the lease is: the next look finds it again.
        """
        if lease.fence in opened.fences and lease.fence not in opened.cancels_told:
            opened.cancels_told.add(lease.fence)
            opened.push(CancelAsked(lease))

    def drain(self) -> None:
        """Grants no more leases; every stream is told to go away and ends, polls answer what they have."""
        self.draining = True
        for poll in self._polls:
            self.remove_quietly(poll)
        for opened in list(self._by_id.values()):
            self.send_away(opened, SHUTTING_DOWN)

    def send_away(self, opened: OpenSession, reason: str) -> None:
        """Tells a stream to go away and ends it after the events that wait."""
        opened.push(WentAway(reason))
        self.remove_quietly(opened)

    def remove_quietly(self, opened: OpenSession) -> None:
        """Ends a stream after the events that wait have been written."""
        opened.end()
        for queue in opened.queues:
            if entry := self._lanes.get(queue):
                entry[0].sessions.pop(opened, None)

    async def close(self) -> None:
        """Stops the lanes and waits for what they began, as long as the database answers."""
        for lane, _ in list(self._lanes.values()):
            await lane.quiesce()
        await supervise.stop(*(task for _, task in self._lanes.values()))
        self._lanes.clear()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=CLOSE_S)
            for task in late:
                task.cancel()
