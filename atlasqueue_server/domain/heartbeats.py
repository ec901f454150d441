"""heartbeat: the session lives on, and what it holds is reconciled with what is leased to it.

Idle workers are the many: their heartbeats gather for a moment, the longer the more sessions there are,
and are one statement together. A session that holds jobs, or has leases on record, is looked at by
itself. Where it was looked at before, the leases below the lowest that it held then, and not above the
highest that had reached it, are gone for good; a floor keeps the next look from walking their dead entries,
which vacuum cannot remove behind a pinned xmin. Now and then a look goes without the floor, in case that a
row was locked by another verb.

    nothing held ──▶ gather ──▶ extend_sessions_if_live ──▶ nothing leased: answered
                                                        └─▶ leased ─▶ ┐
    jobs held ───────────────────────────────────────────────────────▶ extend, reconcile, classify
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atlasqueue_server.domain.batching import Batcher
from atlasqueue_server.model.jobs import HeldJob
from atlasqueue_server.model.limits import NOTHING_ON_ITS_WAY
from atlasqueue_server.store import sessions as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.sessions import Extended, IdleSession

EPOCH_MAX = 2**62
GATHER_S_A_SESSION = 0.0004
GATHER_S_MAX = 0.4
BEATS_BETWEEN_FULL_LOOKS = 30
FLOORS_MAX = 20_000


@dataclass(slots=True)
class _Floor:
    fence: int
    beats: int = 0


class Heartbeats:
    """Takes the heartbeats of one server."""

    def __init__(self, database: Database, sessions_open: Callable[[], int]) -> None:
        self._database = database
        self._sessions_open = sessions_open
        self._floors: dict[int, _Floor] = {}
        self._idle: Batcher[IdleSession, Extended | None] = Batcher(
            self._extend_idle, size=lambda _: 1, flights=1, gather_s=self._gather_s
        )

    async def beat(
        self, session_id: int, epoch: int, held: Sequence[HeldJob], last_fence: int
    ) -> Extended | None:
        """What a heartbeat found; None: the session is lost or superseded."""
        floor = self._floor(session_id)
        if not held:
            (idle,) = await self._idle.submit([IdleSession(session_id, epoch, floor)])
            if idle is None or not idle.leased:
                return idle
        extended = await store.heartbeat(self._database, session_id, epoch, held, last_fence, floor)
        if extended is not None and last_fence < NOTHING_ON_ITS_WAY:
            # What is above last_fence was on its way then, and may never have arrived.
            self._looked(session_id, min([last_fence, *(job.fence - 1 for job in held)]))
        return extended

    async def keep_alive(self, session_id: int) -> Extended | None:
        """Extends a session, whatever its epoch, and looks at nothing that it holds; None: it is lost."""
        # No lease has so high a fence, so that none is looked for.
        idle = IdleSession(session_id, EPOCH_MAX, NOTHING_ON_ITS_WAY)
        (extended,) = await self._idle.submit([idle])
        return extended

    async def close(self) -> None:
        """Waits for the heartbeats that were let in."""
        await self._idle.close()

    def _gather_s(self) -> float:
        return min(GATHER_S_MAX, GATHER_S_A_SESSION * self._sessions_open())

    async def _extend_idle(self, idle: Sequence[IdleSession]) -> list[Extended | None]:
        return await store.extend_idle(self._database, idle)

    def _floor(self, session_id: int) -> int:
        floor = self._floors.get(session_id)
        if floor is None:
            return 0
        floor.beats += 1
        if floor.beats < BEATS_BETWEEN_FULL_LOOKS:
            return floor.fence
        del self._floors[session_id]
        return 0

    def _looked(self, session_id: int, fence: int) -> None:
        if floor := self._floors.get(session_id):
            floor.fence = max(floor.fence, fence)
            return
        if len(self._floors) >= FLOORS_MAX:
            self._floors.clear()
        self._floors[session_id] = _Floor(fence)
