"""What the worker holds: from the event that brought a job until its report is answered.

Three threads of work share it: the stream adds, the reporter takes out, the heartbeats (in a thread of
their own) tell the server. The highest fence rises only after the jobs are in, so that a heartbeat can
never make the server believe that a job has arrived and is not held.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker.job import JobContext, LeaseState


class Held:
    """The jobs held, by fence."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[int, JobContext] = {}
        self._last_fence = 0
        self._uncertain = False

    def add(self, jobs: Iterable[JobContext]) -> None:
        """Jobs have arrived."""
        with self._lock:
            for job in jobs:
                self._jobs[job.fence] = job
                self._last_fence = max(self._last_fence, job.fence)
                if self._uncertain:
                    job.lease_state = LeaseState.UNCERTAIN

    def remove(self, fences: Iterable[int]) -> None:
        """Reports were answered."""
        with self._lock:
            for fence in fences:
                self._jobs.pop(fence, None)

    def get(self, fence: int) -> JobContext | None:
        """The job under this fence, if it is held."""
        with self._lock:
            return self._jobs.get(fence)

    def snapshot(self) -> tuple[list[JobContext], int]:
        """The jobs and the highest fence, as one."""
        with self._lock:
            return list(self._jobs.values()), self._last_fence

    @property
    def last_fence(self) -> int:
        """The highest fence that has arrived in this session."""
        return self._last_fence

    def set_uncertain(self, uncertain: bool) -> None:
        """Whether servers answer; running handlers are told."""
        with self._lock:
            if uncertain == self._uncertain:
                return
            self._uncertain = uncertain
            state = LeaseState.UNCERTAIN if uncertain else LeaseState.CERTAIN
            for job in self._jobs.values():
                if job.lease_state is not LeaseState.LOST:
                    job.lease_state = state

    def lose(self, fence: int) -> JobContext | None:
        """The lease is another's: takes the job out and tells its handler."""
        with self._lock:
            job = self._jobs.pop(fence, None)
        if job is not None:
            job.lease_state = LeaseState.LOST
            job.cancel()
        return job

    def lose_all(self) -> None:
        """The session is lost, and everything with it; the next session begins with no fence."""
        with self._lock:
            jobs = list(self._jobs.values())
            self._jobs.clear()
            self._last_fence = 0
        for job in jobs:
            job.lease_state = LeaseState.LOST
            job.cancel()

    def to_proto(
        self, jobs: Iterable[JobContext]
    ) -> tuple[list[worker_service_pb2.HeldJob], dict[int, dict[str, object]]]:
        """The list for a heartbeat, and what was told, by fence, to be told again if it fails."""
        listed = []
        told_by_fence: dict[int, dict[str, object]] = {}
        for job in jobs:
            held = worker_service_pb2.HeldJob(queue=job.queue, job_id=job.job_id, fence=job.fence)
            told = job.take_told()
            if told is None:
                listed.append(held)
                continue
            told_by_fence[job.fence] = told
            if "progress" in told:
                held.progress.percent, held.progress.note = told["progress"]
            if "checkpoint" in told:
                held.checkpoint = told["checkpoint"]
            listed.append(held)
        return listed, told_by_fence
