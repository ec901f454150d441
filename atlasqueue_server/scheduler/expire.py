"""expire: leases of lost workers, in two steps; and fail, by a job's own deadline.

First a session whose time is over is marked lost, for good, under its row lock; then its leases are
taken in bounded batches. A single statement took a lease whose heartbeat had just been answered LIVE.
"""

from __future__ import annotations

from collections import Counter

from atlasqueue_server.scheduler.loop import Loop, VerbLoop, log
from atlasqueue_server.store import scheduler as store
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term

SESSIONS_BATCH = 1000
LEASES_BATCH = 2000


class Expire(VerbLoop):
    """Expires the leases of sessions that sent no heartbeat."""

    name = "expire"
    interval_s = 0.1
    idle_s = 10.0

    async def tick(self, term: Term) -> bool:
        """Loses sessions, then expires a batch of leases."""
        lost = await store.lose_sessions_if_leader(self._database, term, SESSIONS_BATCH)
        for session_id, worker in lost:
            log.warning("session_lost", session=session_id, worker=worker)
            self._signals.session_lost(session_id)
        expired = await store.expire_leases_if_leader(self._database, term, LEASES_BATCH)
        for queue, job_id, fence, state in expired:
            # One line a lease would be a flood when many expire together; the failures table has them all.
            self._journal.expired(queue, job_id, fence, state)
            self._signals.job_moved(job_id)
        if expired:
            states = Counter(state for _, _, _, state in expired)
            log.warning("leases_expired", leases=len(expired), **states)
        return len(lost) == SESSIONS_BATCH or len(expired) == LEASES_BATCH


class FailOverdue(VerbLoop):
    """Fails jobs that run past their deadline."""

    name = "fail_overdue"
    interval_s = 0.1
    idle_s = 10.0

    async def tick(self, term: Term) -> bool:
        """Fails a batch of overdue jobs."""
        overdue = await store.fail_overdue_jobs_if_leader(self._database, term, LEASES_BATCH)
        for queue, job_id, session_id, fence, state in overdue:
            self._journal.passed_deadline(queue, fence, state)
            log.warning("deadline_passed", queue=queue, job=job_id, fence=fence, state=state)
            self._signals.job_moved(job_id)
            self._signals.slots_freed(session_id)
        return len(overdue) == LEASES_BATCH


class AdoptOrphans(Loop):
    """Leases, sessions and servers that a crash or a restored backup left behind."""

    name = "adopt_orphans"
    interval_s = 30.0

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    async def tick(self, term: Term) -> bool:
        """Gives leases without a session a lost one; forgets sessions and servers that are gone."""
        await store.adopt_orphans_if_leader(self._database, term)
        await store.forget_dead_servers_if_leader(self._database, term)
        deleted = await store.delete_lost_sessions_if_leader(self._database, term, SESSIONS_BATCH)
        return deleted == SESSIONS_BATCH
