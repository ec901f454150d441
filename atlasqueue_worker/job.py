"""What a handler sees of its job and of its lease."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker.outcomes import Cancel, Release, cut_text

CHECKPOINT_BYTES_MAX = 64 * 1024
NOTE_BYTES_MAX = 1024
# Of an id in a column.
ID_BYTES = 16


class LeaseState(StrEnum):
    """How sure the worker is that the job is still its own."""

    CERTAIN = "certain"
    # No server has answered a heartbeat of late: go on, but think twice before an effect that hurts.
    UNCERTAIN = "uncertain"
    # The job is another worker's by now: whatever is reported will be refused.
    LOST = "lost"


T = TypeVar("T")

# Guards what few jobs ever need (a thread that waits, progress to tell), so that no job pays for its own.
_rarely = threading.Lock()


class _Sort:
    """What the jobs of a sort have in common: all but id, fence and payload. One that came alone is a sort by itself."""

    __slots__ = (
        "attempt", "checkpoint", "crashes", "deliveries", "ends_at", "headers", "kind", "max_attempts", "priority",
        "queue",
    )  # fmt: skip

    def __init__(self, leased: worker_service_pb2.LeasedJob) -> None:
        self.queue = leased.queue
        self.kind = leased.kind
        headers = leased.headers
        self.headers: dict[str, str] = dict(headers) if headers else {}
        self.priority = leased.priority
        self.attempt = leased.attempt
        self.crashes = leased.crashes
        self.deliveries = leased.deliveries
        self.max_attempts = leased.max_attempts
        self.checkpoint: bytes | None = leased.checkpoint or None
        self.ends_at: float | None = None
        if leased.HasField("deadline_time_left"):
            # The server's words for how long; a local monotonic clock only counts it down.
            left = leased.deadline_time_left.ToTimedelta()
            self.ends_at = time.monotonic() + left.total_seconds()


class JobContext:
    """A job under a lease. Its methods may be called from any thread.

    Attributes:
        queue, job_id, kind, payload, headers, priority: as enqueued.
        fence: grows from one lease of the job to the next. Hand it to whatever the job writes to, so that a run
            that is late can be refused there.
        attempt: attempts that failed before this run.
        crashes: leases of the job that were lost.
        deliveries: leases so far, this one included.
        max_attempts: how many attempts may fail in all.
        checkpoint: the newest that an earlier run saved; None without one.
        lease_state: how sure the worker is that the job is still its own.
        draining: it is the worker that stops, not this job alone.
    """

    __slots__ = (
        "_cancelled",
        "_cancelled_async",
        "_cancelled_sync",
        "_job_id",
        "_loop",
        "_sort",
        "_stop",
        "_told",
        "draining",
        "fence",
        "id_bytes",
        "lease_state",
        "payload",
    )

    def __init__(self, leased: worker_service_pb2.LeasedJob) -> None:
        self._begin(_Sort(leased), leased.job_id, None, leased.fence, leased.payload)

    def _begin(
        self, sort: _Sort, job_id: str | None, id_bytes: bytes | None, fence: int, payload: bytes
    ) -> None:
        self._sort = sort
        self._job_id = job_id
        # Of a job that came in a column, and is reported in one.
        self.id_bytes = id_bytes
        self.fence = fence
        self.payload = payload
        self.lease_state = LeaseState.CERTAIN
        # Asked to stop by a drain: the job goes back. By a cancel or a lost lease: it does not.
        self.draining = False
        self._cancelled = False
        self._cancelled_sync: threading.Event | None = None
        self._cancelled_async: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[JobContext], None] | None = None
        self._told: dict[str, Any] | None = None

    @property
    def job_id(self) -> str:
        """The id in canonical text form."""
        if self._job_id is None:
            digits = (self.id_bytes or b"").hex()
            self._job_id = (
                f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
            )
        return self._job_id

    @property
    def queue(self) -> str:
        """As enqueued."""
        return self._sort.queue

    @property
    def kind(self) -> str:
        """As enqueued."""
        return self._sort.kind

    @property
    def headers(self) -> dict[str, str]:
        """As enqueued; a copy, for other jobs may have them in common."""
        return dict(self._sort.headers)

    @property
    def priority(self) -> int:
        """As enqueued."""
        return self._sort.priority

    @property
    def attempt(self) -> int:
        """Attempts that failed before this run."""
        return self._sort.attempt

    @property
    def crashes(self) -> int:
        """Leases of the job that were lost."""
        return self._sort.crashes

    @property
    def deliveries(self) -> int:
        """Leases so far, this one included."""
        return self._sort.deliveries

    @property
    def max_attempts(self) -> int:
        """How many attempts may fail in all."""
        return self._sort.max_attempts

    @property
    def checkpoint(self) -> bytes | None:
        """The newest that an earlier run saved; None without one."""
        return self._sort.checkpoint

    def json(self) -> Any:
        """The payload, read as JSON. Raises ValueError when it is none."""
        return json.loads(self.payload)

    @property
    def time_left(self) -> float | None:
        """Seconds until the job's deadline; None without one."""
        ends_at = self._sort.ends_at
        return None if ends_at is None else max(0.0, ends_at - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Cancel was requested, the lease was lost, or the worker drains: stop soon."""
        return self._cancelled

    def raise_if_cancelled(self) -> None:
        """Raises Cancel when the handler should stop; Release when it is the worker that stops."""
        if self.draining:
            raise Release("the worker drains")
        if self.cancelled:
            raise Cancel("the handler was asked to stop")

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Blocks a thread until the handler should stop, or for `timeout` seconds; whether it should."""
        with _rarely:
            if self._cancelled_sync is None:
                self._cancelled_sync = threading.Event()
            if self._cancelled:
                self._cancelled_sync.set()
        return self._cancelled_sync.wait(timeout)

    async def cancellation(self) -> None:
        """Returns when the handler should stop."""
        with _rarely:
            if self._cancelled_async is None:
                self._cancelled_async = asyncio.Event()
                self._loop = asyncio.get_running_loop()
            if self._cancelled:
                self._cancelled_async.set()
        await self._cancelled_async.wait()

    def set_progress(self, percent: int, note: str = "") -> None:
        """Tells how far the handler has come; goes with the next heartbeat.

        Args:
            percent: is brought between 0 and 100.
            note: is cut at 1 KiB.
        """
        self._tell("progress", (max(0, min(100, int(percent))), cut_text(note, NOTE_BYTES_MAX)))

    def save_checkpoint(self, data: bytes) -> None:
        """Keeps up to 64 KiB for the next run; goes with the next heartbeat, or before the report.

        Raises ValueError when it is too large.
        """
        kept = bytes(data)
        if len(kept) > CHECKPOINT_BYTES_MAX:
            raise ValueError(
                f"a checkpoint holds at most {CHECKPOINT_BYTES_MAX} bytes, not {len(kept)}"
            )
        self._tell("checkpoint", kept)

    @property
    def has_checkpoint_to_tell(self) -> bool:
        """A checkpoint was saved that no heartbeat has brought yet."""
        told = self._told
        return told is not None and "checkpoint" in told

    def _tell(self, what: str, value: object) -> None:
        with _rarely:
            self._told = (self._told or {}) | {what: value}

    def take_told(self) -> dict[str, Any] | None:
        """What was told since the last heartbeat, taken out; None when nothing was."""
        if self._told is None:
            return None
        with _rarely:
            told, self._told = self._told, None
        return told

    def give_back_told(self, told: dict[str, Any]) -> None:
        """The heartbeat failed: tell it again, unless something newer was told meanwhile."""
        with _rarely:
            self._told = told | (self._told or {})

    def bind(self, loop: asyncio.AbstractEventLoop, stop: Callable[[JobContext], None]) -> None:
        """How its handler is stopped: `stop` is called in `loop`, maybe after the handler has ended."""
        self._loop, self._stop = loop, stop

    def drain(self) -> None:
        """Asks the handler to stop because the worker does, unless it was asked before."""
        if not self.cancelled:
            self.draining = True
            self.cancel()

    def cancel(self) -> None:
        """Asks the handler to stop."""
        with _rarely:
            self._cancelled = True
            if self._cancelled_sync is not None:
                self._cancelled_sync.set()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel_in_loop)

    def _cancel_in_loop(self) -> None:
        if self._cancelled_async is not None:
            self._cancelled_async.set()
        if self._stop is not None:
            self._stop(self)


def leased_together(uniform: worker_service_pb2.UniformLeases) -> list[JobContext]:
    """The jobs of a sort, in their order."""
    sort, ids = _Sort(uniform.shared), uniform.job_ids
    jobs: list[JobContext] = []
    for at, fence, payload in zip(
        range(0, len(ids), ID_BYTES), uniform.fences, uniform.payloads, strict=True
    ):
        job = JobContext.__new__(JobContext)
        job._begin(sort, None, ids[at : at + ID_BYTES], fence, payload)
        jobs.append(job)
    return jobs


def unless_drained(job: JobContext, ending: T) -> T | Release:
    """What the handler ended with; but a job that was asked to stop by a drain alone is not cancelled."""
    return Release() if job.draining and isinstance(ending, Cancel) else ending


# Takes how a run has ended: what is told of it, without queue, id and fence. None: it returned nothing, as most do,
# and a message for each would cost more than the rest of its report.
Report = Callable[[JobContext, worker_service_pb2.JobOutcome | None], None]
