"""The fallback of every signal about sessions: twice a second this server compares its open streams with
the database, in one statement for all of them.

    lost                  the stream ends with SESSION_LOST
    opened again later    the stream ends with SESSION_SUPERSEDED: another server has the newer one
    cancel requested      the worker is told
    fewer leases          another server took a report: slots are free again (each fourth time, since
                          counting 50 000 leases takes 35 ms)

NOTIFY tells all of this within 20 ms. Without it, this does within half a second, or two.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from atlasqueue_server.domain.dispatch import Dispatcher
from atlasqueue_server.domain.sessions import OpenSession
from atlasqueue_server.model.errors import SessionLost, SessionSuperseded
from atlasqueue_server.model.jobs import LeaseName
from atlasqueue_server.store import sessions as store
from atlasqueue_server.store.database import Database, Row

CHECK_S = 0.5
LOOKS_PER_COUNT = 4


class Checkup:
    """Looks after the streams of one server."""

    def __init__(self, database: Database, dispatcher: Dispatcher) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._looks = 0
        self._last: list[OpenSession] = []
        self._known = store.KnownSessions.of(())

    async def run(self) -> None:
        """Looks for as long as the server lives."""
        while True:
            await asyncio.sleep(CHECK_S)
            await self.look()

    async def look(self) -> None:
        """Looks once."""
        began = time.monotonic()
        opened_here = list(self._dispatcher.sessions)
        if opened_here:
            known = self._known_of(opened_here)
            found, cancels = await store.check_sessions(self._database, known)
            if found or cancels:
                await self._tell({s.session_id: s for s in opened_here}, found, cancels)
        self._dispatcher.looked(began)

    async def _tell(
        self, open_here: Mapping[int, OpenSession], found: Sequence[Row], cancels: Sequence[Row]
    ) -> None:
        to_recount = []
        for session_id, lost, epoch, fewer in found:
            opened = open_here[session_id]
            if lost:
                error = SessionLost(f"session {session_id} is lost")
                self._dispatcher.remove(opened, error)
            elif epoch > opened.session.epoch:
                superseded = SessionSuperseded(f"session {session_id} has epoch {epoch}")
                self._dispatcher.remove(opened, superseded)
            elif fewer:
                to_recount.append(opened)
        for session_id, *lease in cancels:
            self._dispatcher.tell_cancel(open_here[session_id], LeaseName(*lease))
        if to_recount:
            await self._dispatcher.recount(to_recount)

    def _known_of(self, opened: list[OpenSession]) -> store.KnownSessions:
        counting = self._looks % LOOKS_PER_COUNT == 0 and any(s.fences for s in opened)
        self._looks += 1
        if counting:
            return store.KnownSessions.of(
                [
                    store.KnownSession(s.session_id, s.session.epoch, len(s.fences), s.fence_floor)
                    for s in opened
                ]
            )
        if opened != self._last:
            # Of a thousand idle streams few come or go from one look to the next.
            self._last = opened
            self._known = store.KnownSessions.of(
                [store.KnownSession(s.session_id, s.session.epoch) for s in opened]
            )
        return self._known
