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
        "_ends_at",
        "_loop",
        "_stop",
        "_told",
        "attempt",
        "checkpoint",
        "crashes",
        "deliveries",
        "draining",
        "fence",
        "headers",
        "job_id",
        "kind",
        "lease_state",
        "max_attempts",
        "payload",
        "priority",
        "queue",
    )

    def __init__(self, leased: worker_service_pb2.LeasedJob) -> None:
        self.queue = leased.queue
        self.job_id = leased.job_id
        self.fence = leased.fence
        self.kind = leased.kind
        self.payload = leased.payload
        headers = leased.headers
        self.headers: dict[str, str] = dict(headers) if headers else {}
        self.priority = leased.priority
        self.attempt = leased.attempt
        self.crashes = leased.crashes
        self.deliveries = leased.deliveries
        self.max_attempts = leased.max_attempts
        self.checkpoint: bytes | None = leased.checkpoint or None
        self.lease_state = LeaseState.CERTAIN
        self._ends_at: float | None = None
        if leased.HasField("deadline_time_left"):
            # The server's words for how long; a local monotonic clock only counts it down.
            self._ends_at = (
                time.monotonic() + leased.deadline_time_left.ToTimedelta().total_seconds()
            )
        # Asked to stop by a drain: the job goes back. By a cancel or a lost lease: it does not.
        self.draining = False
        self._cancelled = False
        self._cancelled_sync: threading.Event | None = None
        self._cancelled_async: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[JobContext], None] | None = None
        self._told: dict[str, Any] | None = None

    def json(self) -> Any:
        """The payload, read as JSON. Raises ValueError when it is none."""
        return json.loads(self.payload)

    @property
    def time_left(self) -> float | None:
        """Seconds until the job's deadline; None without one."""
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

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


def unless_drained(job: JobContext, ending: T) -> T | Release:
    """What the handler ended with; but a job that was asked to stop by a drain alone is not cancelled."""
    return Release() if job.draining and isinstance(ending, Cancel) else ending


# Takes how a run has ended: what is told of it, without queue, id and fence. None: it returned nothing, as most do,
# and a message for each would cost more than the rest of its report.
Report = Callable[[JobContext, worker_service_pb2.JobOutcome | None], None]
