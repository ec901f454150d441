"""What a handler sees of its job and of its lease."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from enum import StrEnum
from typing import Any

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


class JobContext:
    """A job under a lease. Its methods may be called from any thread."""

    def __init__(self, leased: worker_service_pb2.LeasedJob) -> None:
        self.queue = leased.queue
        self.job_id = leased.job_id
        self.fence = leased.fence
        self.kind = leased.kind
        self.payload = leased.payload
        self.headers = dict(leased.headers)
        self.priority = leased.priority
        self.attempt = leased.attempt
        self.crashes = leased.crashes
        self.deliveries = leased.deliveries
        self.max_attempts = leased.max_attempts
        self.checkpoint = leased.checkpoint if leased.checkpoint else None
        self.lease_state = LeaseState.CERTAIN
        self._ends_at: float | None = None
        if leased.HasField("deadline_time_left"):
            # The server's words for how long; a local monotonic clock only counts it down.
            self._ends_at = (
                time.monotonic() + leased.deadline_time_left.ToTimedelta().total_seconds()
            )
        # Asked to stop by a drain: the job goes back. By a cancel or a lost lease: it does not.
        self.draining = False
        self._cancelled = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancelled_async = asyncio.Event()
        self._told_lock = threading.Lock()
        self._told: dict[str, Any] = {}

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
        return self._cancelled.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises Cancel when the handler should stop; Release when it is the worker that stops."""
        if self.draining:
            raise Release("the worker drains")
        if self.cancelled:
            raise Cancel("the handler was asked to stop")

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Blocks a thread until the handler should stop, or for `timeout` seconds; whether it should."""
        return self._cancelled.wait(timeout)

    async def cancellation(self) -> None:
        """Returns when the handler should stop."""
        await self._cancelled_async.wait()

    def set_progress(self, percent: int, note: str = "") -> None:
        """Tells how far the handler has come; goes with the next heartbeat.

        Args:
            percent: is brought between 0 and 100.
            note: is cut at 1 KiB.
        """
        progress = (max(0, min(100, int(percent))), cut_text(note, NOTE_BYTES_MAX))
        with self._told_lock:
            self._told["progress"] = progress

    def save_checkpoint(self, data: bytes) -> None:
        """Keeps up to 64 KiB for the next attempt; goes with the next heartbeat, or before the report.

        Raises ValueError when it is too large.
        """
        kept = bytes(data)
        if len(kept) > CHECKPOINT_BYTES_MAX:
            raise ValueError(
                f"a checkpoint holds at most {CHECKPOINT_BYTES_MAX} bytes, not {len(kept)}"
            )
        with self._told_lock:
            self._told["checkpoint"] = kept

    @property
    def has_checkpoint_to_tell(self) -> bool:
        """A checkpoint was saved that no heartbeat has brought yet."""
        with self._told_lock:
            return "checkpoint" in self._told

    def take_told(self) -> dict[str, Any]:
        """What was told since the last heartbeat, taken out."""
        with self._told_lock:
            told, self._told = self._told, {}
        return told

    def give_back_told(self, told: dict[str, Any]) -> None:
        """The heartbeat failed: tell it again, unless something newer was told meanwhile."""
        with self._told_lock:
            self._told = told | self._told

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop in which `cancellation` is awaited."""
        self._loop = loop

    def drain(self) -> None:
        """Asks the handler to stop because the worker does, unless it was asked before."""
        if not self.cancelled:
            self.draining = True
            self.cancel()

    def cancel(self) -> None:
        """Asks the handler to stop."""
        self._cancelled.set()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancelled_async.set)
