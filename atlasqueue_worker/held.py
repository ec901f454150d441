"""What the worker holds: from the event that brought a job until its report is answered.

Three threads of work share it: the stream adds, the reporter takes out, the heartbeats (in a thread of
their own) tell the server. The highest fence rises only after the jobs are in, so that a heartbeat can
never make the server believe that a job has arrived and is not held.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker.job import JobContext, LeaseState

# Beside the list itself, which has at most 2 MiB, within the 4 MiB of a message.
TOLD_BYTES_MAX = 2 * 1024 * 1024

# Within so long a job of another queue with a lower fence may still arrive.
SETTLE_S = 2.0
# As last fence: nothing is on its way any more, and whatever is not held goes back.
NOTHING_ON_ITS_WAY = 2**63 - 1


class Held:
    """The jobs held, by fence."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[int, JobContext] = {}
        self._last_fence = 0
        # (when, the highest fence by then) of late, and the highest fence from before.
        self._arrivals: deque[tuple[float, int]] = deque()
        self._settled_fence = 0
        self._ended = False
        self._uncertain = False

    def add(self, jobs: Iterable[JobContext]) -> None:
        """Jobs have arrived."""
        with self._lock:
            arrived = {job.fence: job for job in jobs}
            self._jobs |= arrived
            self._last_fence = max(self._last_fence, max(arrived, default=0))
            if self._uncertain:
                for job in arrived.values():
                    job.lease_state = LeaseState.UNCERTAIN
            self._note_arrival()

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
        """The jobs, and the highest fence below which nothing is on its way any more, as one.

        Jobs of several queues are leased side by side, so a higher fence may arrive a moment before a
        lower one; told at once, it would make the server take the lower one back.
        """
        with self._lock:
            settled_at = time.monotonic() - SETTLE_S
            while self._arrivals and self._arrivals[0][0] <= settled_at:
                self._settled_fence = self._arrivals.popleft()[1]
            last_fence = NOTHING_ON_ITS_WAY if self._ended else self._settled_fence
            return list(self._jobs.values()), last_fence

    def no_more_arrive(self) -> None:
        """The worker's last stream has ended: what the server has sent and is not here will not come."""
        self._ended = True

    def _note_arrival(self) -> None:
        # One entry a tenth of a second, dated at its end.
        at = math.ceil(time.monotonic() * 10) / 10
        if self._arrivals and self._arrivals[-1][0] == at:
            self._arrivals.pop()
        self._arrivals.append((at, self._last_fence))

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
            self._last_fence = self._settled_fence = 0
            self._arrivals.clear()
        for job in jobs:
            job.lease_state = LeaseState.LOST
            job.cancel()

    def to_proto(
        self, jobs: Iterable[JobContext]
    ) -> tuple[list[worker_service_pb2.HeldJob], dict[int, dict[str, object]], bool]:
        """(list, told, more): the list for a heartbeat; what was told, by fence, to be told again if it
        fails; whether something is left for the next heartbeat because a message has its limit."""
        listed = []
        told_by_fence: dict[int, dict[str, object]] = {}
        size = 0
        more = False
        for job in jobs:
            held = worker_service_pb2.HeldJob(queue=job.queue, job_id=job.job_id, fence=job.fence)
            listed.append(held)
            told = job.take_told()
            if told is None:
                continue
            size += _told_bytes(told)
            if size > TOLD_BYTES_MAX:
                job.give_back_told(told)
                more = True
                continue
            told_by_fence[job.fence] = told
            if "progress" in told:
                held.progress.percent, held.progress.note = told["progress"]
            if "checkpoint" in told:
                held.checkpoint = told["checkpoint"]
        return listed, told_by_fence, more


def _told_bytes(told: dict[str, Any]) -> int:
    _, note = told.get("progress", (0, ""))
    return len(note.encode()) + len(told.get("checkpoint", b""))
