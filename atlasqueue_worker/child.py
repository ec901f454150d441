"""The subprocess that runs one job: `python -m atlasqueue_worker.child MODULE:APP KIND SOCKET CRASH`.

SOCKET and CRASH are file descriptors: the frames, and where Python writes its stacks when it crashes. The
handler runs in the main thread; a thread beside it reads what the worker says. Without a worker it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable
from typing import Any, cast

from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker.app import Registration, load_app
from atlasqueue_worker.frames import Frame, encode_frame, receive_frame
from atlasqueue_worker.job import JobContext, LeaseState
from atlasqueue_worker.outcomes import Cancel, completed, ended, no_exit

PR_SET_PDEATHSIG = 1
ALARM_S = 10


class ChildJob(JobContext):
    """The job in its subprocess: what it tells goes to the worker at once."""

    def __init__(self, leased: worker_service_pb2.LeasedJob, link: Link) -> None:
        super().__init__(leased)
        self._link = link

    def _tell(self, what: str, value: object) -> None:
        if what == "progress":
            self._link.send(Frame.PROGRESS, json.dumps(value).encode())
        else:
            self._link.send(Frame.CHECKPOINT, cast(bytes, value))


class Link:
    """The subprocess's end of the socket; may be used from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, kind: Frame, body: bytes = b"") -> None:
        """Sends a frame. A worker that is gone is noticed by `listen`."""
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(encode_frame(kind, body))

    def receive(self) -> tuple[Frame, bytes]:
        """The next frame. Raises EOFError when the worker is gone."""
        return receive_frame(self._connection)

    def listen(self, job: JobContext) -> None:
        """In a thread: passes on to the job what the worker says; ends everything when it is gone."""
        try:
            while True:
                kind, body = self.receive()
                if kind is Frame.CANCEL:
                    job.cancel()
                elif kind is Frame.DRAIN:
                    job.drain()
                elif kind is Frame.LEASE_STATE:
                    job.lease_state = LeaseState(body.decode())
        finally:
            # The whole group: programs that the handler started have lost their purpose as well.
            os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Entry point of the process."""
    application, kind, connection, crash = sys.argv[1:5]
    _die_with_the_worker()
    faulthandler.enable(int(crash))
    # The frames ask the handler to stop. The signal is for programs that it has started; a no-op handler,
    # unlike SIG_IGN, is not inherited by them.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    link = Link(socket.socket(fileno=int(connection)))
    outcome = _run(application, kind, link)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    link.send(Frame.OUTCOME, outcome.SerializeToString())
    # The worker ends this process, with all that the handler left behind; the alarm is for one that is gone.
    signal.alarm(ALARM_S)
    signal.pause()


def _die_with_the_worker() -> None:
    """Also a handler that holds the GIL, and so never hears that the socket was closed, ends (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _run(application: str, kind: str, link: Link) -> worker_service_pb2.JobOutcome:
    outcome = worker_service_pb2.JobOutcome()
    try:
        start = _received(link)
        sys.path[:] = json.loads(start)["path"]
        registration = load_app(application).registrations.get(kind)
        if registration is None:
            raise LookupError(f"{application} has no handler for {kind!r} in a subprocess")
        link.send(Frame.HELLO)
        body = _received(link)
        job = ChildJob(worker_service_pb2.LeasedJob.FromString(body), link)
        threading.Thread(target=link.listen, args=(job,), name="atlasqueue", daemon=True).start()
        return completed(outcome, _call(registration, job))
    except (SystemExit, KeyboardInterrupt) as error:
        return ended(outcome, no_exit(error))
    except BaseException as error:
        return ended(outcome, error)


def _received(link: Link) -> bytes:
    try:
        return link.receive()[1]
    except EOFError:
        # The worker is gone.
        os._exit(1)


def _call(registration: Registration, job: JobContext) -> Any:
    if not registration.is_async:
        return registration.handler(job)

    async def run() -> Any:
        task = asyncio.current_task()
        assert task is not None

        def stop(_: JobContext) -> None:
            task.cancel()

        # A drain or cancel of the job cancels the task, as in the worker itself.
        job.bind(asyncio.get_running_loop(), stop)
        if job.cancelled:
            raise Cancel("cancelled before it began")
        return await cast(Awaitable[Any], registration.handler(job))

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        if job.cancelled:
            return Cancel("cancelled")
        raise RuntimeError("the handler ended in a cancellation of its own") from None


if __name__ == "__main__":
    main()
