"""Runs one job in a process of its own: a crash there is a failure of that job, not of the worker.

A fresh Python, never a fork (gRPC has threads), in a session and process group of its own, so that what the
handler starts ends with it. It imports the app by the name on the worker's own command line.

asked to stop ──frame, SIGTERM to the group──▶ ends by itself within kill_after ──▶ its own outcome
(cancel, lost lease, drain, deadline)       └▶ SIGKILL to the group            ──▶ cancelled, or failed
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from typing import Any

from atlasqueue.jobs import to_duration
from atlasqueue.v1 import job_pb2, worker_service_pb2
from atlasqueue_worker.app import Registration
from atlasqueue_worker.frames import Frame, encode_frame, read_frame
from atlasqueue_worker.job import JobContext, LeaseState
from atlasqueue_worker.outcomes import (
    ERROR_STACK_BYTES_MAX,
    Cancel,
    HandlerOutcome,
    Reject,
    Release,
    Retry,
    Snooze,
    cut_text,
)

# How often the process and the lease are looked at while nothing is heard.
TICK_S = 0.5
# A worker that drains gives its handlers a second after it has asked them to stop.
DRAIN_KILL_AFTER_S = 0.7
# Between the end of the frames and the end of the process.
EXIT_S = 1.0


class HandlerDied(HandlerOutcome):
    """The process of a handler ended without an outcome; a failed attempt."""


class HandlerKilled(HandlerOutcome):
    """The process of a handler ran past the job's deadline and was ended; a failed attempt."""


async def run_isolated(application: str, registration: Registration, job: JobContext) -> Any:
    """Runs the handler in a process; returns the result's bytes or raises as the handler did.

    Raises HandlerDied, HandlerKilled, and what stands for the outcome: Retry for a failure, Cancel,
    Release, Snooze, Reject.
    """
    process = _Process(application, job.kind)
    try:
        outcome = await process.run(job, registration.kill_after)
    finally:
        await process.end()
    return _value(outcome)


class _Process:
    def __init__(self, application: str, kind: str) -> None:
        self._crash = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._connection, theirs = socket.socketpair()
        with theirs:
            descriptors = (theirs.fileno(), self._crash.fileno())
            # In this thread: with the end of the thread that started it, a process dies (see child.py).
            self._child = subprocess.Popen(
                [sys.executable, "-m", "atlasqueue_worker.child", application, kind]
                + [str(descriptor) for descriptor in descriptors],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                start_new_session=True,
            )
        self._lease_state = LeaseState.CERTAIN
        self._writer: asyncio.StreamWriter | None = None

    async def run(self, job: JobContext, kill_after: float) -> worker_service_pb2.JobOutcome:
        """The outcome that the process tells, or the exception that stands for its end."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._connection)
        conversation = asyncio.create_task(self._converse(reader, self._writer, job))
        try:
            await self._watch(conversation, job, kill_after)
            outcome = conversation.result() if conversation.done() else None
        finally:
            conversation.cancel()
            await asyncio.gather(conversation, return_exceptions=True)
        if outcome is not None:
            return outcome
        if job.cancelled:
            raise Cancel("the handler's process was asked to stop, and ended")
        if job.time_left == 0:
            raise self._explained(HandlerKilled("ran past the job's deadline and was killed"))
        raise self._explained(HandlerDied(await self._end_in_words()))

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: JobContext
    ) -> worker_service_pb2.JobOutcome | None:
        """What the process says, passed on to the job; its outcome, or None when it fell silent."""
        writer.write(encode_frame(Frame.START, json.dumps({"path": sys.path}).encode()))
        try:
            while True:
                kind, body = await read_frame(reader)
                match kind:
                    case Frame.HELLO:
                        writer.write(encode_frame(Frame.JOB, _leased(job).SerializeToString()))
                    case Frame.PROGRESS:
                        job.set_progress(*json.loads(body))
                    case Frame.CHECKPOINT:
                        job.save_checkpoint(body)
                    case Frame.OUTCOME:
                        return worker_service_pb2.JobOutcome.FromString(body)
        except (EOFError, OSError):
            return None

    async def _watch(self, conversation: asyncio.Task[Any], job: JobContext, after: float) -> None:
        """Returns when the conversation is over, or the time to stop is."""
        kill_at: float | None = None
        while not conversation.done():
            left = TICK_S if kill_at is None else kill_at - time.monotonic()
            if kill_at is None and job.time_left is not None:
                left = min(left, job.time_left)
            try:
                await asyncio.wait({conversation}, timeout=max(0.0, min(TICK_S, left)))
            except asyncio.CancelledError:
                if not job.cancelled:
                    raise
                _uncancel()
            if kill_at is None and (job.cancelled or job.time_left == 0):
                self._ask_to_stop(job)
                kill_at = time.monotonic() + (
                    min(after, DRAIN_KILL_AFTER_S) if job.draining else after
                )
            elif kill_at is not None and time.monotonic() >= kill_at:
                return
            if job.lease_state is not self._lease_state:
                self._lease_state = job.lease_state
                self._send(Frame.LEASE_STATE, job.lease_state.encode())
            if self._has_ended():
                # What it said before is in the socket still; a fork of it may keep the socket open.
                await asyncio.wait({conversation}, timeout=EXIT_S)
                return

    def _ask_to_stop(self, job: JobContext) -> None:
        self._send(Frame.DRAIN if job.draining else Frame.CANCEL)
        self._signal(signal.SIGTERM)

    def _send(self, kind: Frame, body: bytes = b"") -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode_frame(kind, body))

    def _signal(self, number: signal.Signals) -> None:
        # Never after the process was reaped: its number would be free for others.
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)

    def _has_ended(self) -> bool:
        """Whether the process has ended, which it may without being reaped."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._child.pid, flags) is not None

    async def _end_in_words(self) -> str:
        give_up_at = time.monotonic() + EXIT_S
        while not self._has_ended():
            if time.monotonic() > give_up_at:
                return "the handler's process closed its connection to the worker; it was killed"
            await asyncio.sleep(0.01)
        await self._reap()
        return in_words(self._child.returncode)

    def _explained(self, error: HandlerOutcome) -> HandlerOutcome:
        """With the stacks that Python wrote when it crashed."""
        self._crash.seek(0)
        error.job_error = job_pb2.JobError(
            type=type(error).__name__,
            message=str(error),
            stack=cut_text(
                self._crash.read(ERROR_STACK_BYTES_MAX).decode("utf-8", "replace"),
                ERROR_STACK_BYTES_MAX,
            ),
        )
        return error

    async def end(self) -> None:
        """Kills what is left of the group and reaps the process."""
        try:
            await self._reap()
        finally:
            self._crash.close()
            if self._writer is not None:
                self._writer.close()
            else:
                self._connection.close()

    async def _reap(self) -> None:
        self._signal(signal.SIGKILL)
        # A process may take its time to die, with much memory to give back.
        await asyncio.shield(asyncio.to_thread(self._child.wait))


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _leased(job: JobContext) -> worker_service_pb2.LeasedJob:
    """The job as a message again, with the time that is left now."""
    left = job.time_left
    return worker_service_pb2.LeasedJob(
        queue=job.queue,
        job_id=job.job_id,
        fence=job.fence,
        kind=job.kind,
        payload=job.payload,
        headers=job.headers,
        priority=job.priority,
        attempt=job.attempt,
        crashes=job.crashes,
        deliveries=job.deliveries,
        checkpoint=job.checkpoint or b"",
        max_attempts=job.max_attempts,
        deadline_time_left=None if left is None else to_duration(timedelta(seconds=left)),
    )


def in_words(code: int) -> str:
    """How a process ended, for people; `code` as of subprocess: negative for a signal."""
    if code >= 0:
        return f"the handler's process ended with exit code {code} and no outcome"
    try:
        name = f"{signal.Signals(-code).name} ({signal.strsignal(-code)})"
    except ValueError:
        name = f"signal {-code}"
    told = f"the handler's process was killed by {name}"
    if -code == signal.SIGKILL:
        told += "; the kernel does that when memory runs out: its log tells"
    return told


def _value(outcome: worker_service_pb2.JobOutcome) -> bytes:
    """The result, or the exception that stands for another outcome."""
    match outcome.WhichOneof("outcome"):
        case "complete":
            return outcome.complete.result
        case "fail":
            fail = outcome.fail
            after = fail.retry_after.ToTimedelta() if fail.HasField("retry_after") else None
            error: HandlerOutcome = Retry(fail.error.message, after=after)
            error.job_error = fail.error
        case "reject":
            error = Reject(outcome.reject.error.message)
            error.job_error = outcome.reject.error
        case "snooze":
            error = Snooze(outcome.snooze.delay.ToTimedelta())
        case "release":
            error = Release()
        case _:
            error = Cancel("cancelled")
    raise error
