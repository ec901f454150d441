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

from atlasqueue_server.domain.dispatch import Dispatcher
from atlasqueue_server.model.errors import SessionLost, SessionSuperseded
from atlasqueue_server.model.jobs import LeaseName
from atlasqueue_server.store import sessions as store
from atlasqueue_server.store.database import Database

CHECK_S = 0.5
LOOKS_PER_COUNT = 4


class Checkup:
    """Looks after the streams of one server."""

    def __init__(self, database: Database, dispatcher: Dispatcher) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._looks = 0

    async def run(self) -> None:
        """Looks for as long as the server lives."""
        while True:
            await asyncio.sleep(CHECK_S)
            await self.look()

    async def look(self) -> None:
        """Looks once."""
        began = time.monotonic()
        open_here = {s.session_id: s for s in self._dispatcher.sessions}
        if open_here:
            counting = self._looks % LOOKS_PER_COUNT == 0
            known = [
                store.KnownSession(at, s.session.epoch, len(s.fences), s.fence_floor)
                if counting and s.fences
                else store.KnownSession(at, s.session.epoch)
                for at, s in open_here.items()
            ]
            self._looks += 1
            found, cancels = await store.check_sessions(self._database, known)
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
        self._dispatcher.looked(began)
