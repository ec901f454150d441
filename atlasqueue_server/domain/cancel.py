"""cancel: scheduled and ready jobs at once; of a leased job it is requested, and its worker told."""

from __future__ import annotations

from atlasqueue_server.domain.jobs import Jobs, not_found
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model.errors import JobDead, JobFinal, Overloaded
from atlasqueue_server.model.jobs import LeaseName
from atlasqueue_server.model.states import State
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.jobs import Cancelled, cancel_job_if_open

# Each further try means that another verb has moved the job; three were enough in every trial.
TRIES_MAX = 10


class Canceller:
    """Cancels jobs."""

    def __init__(
        self, database: Database, jobs: Jobs, signals: Signals, journal: Journal | None = None
    ) -> None:
        self._journal = journal or Journal()
        self._database = database
        self._jobs = jobs
        self._signals = signals

    async def cancel(self, queue: str, job_id: str) -> State:
        """CANCELLED, or LEASED when the cancel is requested.

        Raises JobNotFound, JobIdAmbiguous, JobFinal, JobDead.
        """
        queue = await self._jobs.locate(queue, job_id)
        for _ in range(TRIES_MAX):
            answer = await cancel_job_if_open(self._database, queue, job_id)
            if answer is None:
                continue
            return self._conclude(queue, job_id, *answer)
        raise Overloaded(f"job {job_id} moves too fast to be cancelled; try again")

    def _conclude(
        self, queue: str, job_id: str, found: Cancelled, session_id: int | None, fence: int | None
    ) -> State:
        match found:
            case Cancelled.CANCELLED:
                self._journal.cancelled(queue, job_id)
                self._signals.job_moved(job_id)
                return State.CANCELLED
            case Cancelled.REQUESTED:
                self._journal.cancel_requested(queue, job_id, session_id, fence)
                if session_id is not None and fence is not None:
                    self._signals.cancel_requested(session_id, LeaseName(queue, job_id, fence))
                self._signals.job_moved(job_id)
                return State.LEASED
            case Cancelled.FINAL:
                raise JobFinal(f"job {job_id} is finished, which is final")
            case Cancelled.DEAD:
                raise JobDead(f"job {job_id} is a dead letter: redrive or purge it instead")
            case Cancelled.NOT_FOUND:
                raise not_found(job_id)
