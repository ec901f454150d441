"""Heartbeats, from a thread and a channel of their own.

A handler that blocks the event loop, however long, keeps its leases: nothing here waits for the loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import grpc
import structlog

from atlasqueue.channel import Tls, open_channel
from atlasqueue.errors import (
    AtlasQueueError,
    DatabaseUnavailable,
    InvalidField,
    Overloaded,
    SessionLost,
    SessionSuperseded,
    from_rpc_error,
)
from atlasqueue.retry import Backoff
from atlasqueue.v1 import worker_service_pb2, worker_service_pb2_grpc
from atlasqueue_worker.held import Held
from atlasqueue_worker.session import Session

# A heartbeat without an answer is sent again, to another server if there is one, long before the
# session's time is over.
CALL_TIMEOUT_MIN_S = 1.0
CALL_TIMEOUT_MAX_S = 5.0
# So often a server may answer that it cannot, before another one is asked.
REFUSALS_MAX = 2

log = structlog.get_logger("atlasqueue.worker")


class Heartbeater:
    """Keeps the session alive. `on_lost`, `on_superseded` and `on_reopen` are called from its thread."""

    def __init__(
        self,
        servers: Sequence[str],
        tls: Tls | None,
        session: Session,
        held: Held,
        *,
        on_lost: Callable[[], None],
        on_superseded: Callable[[], None],
        on_reopen: Callable[[], None],
    ) -> None:
        self._servers = list(servers)
        self._tls = tls
        self._session = session
        self._held = held
        self._on_lost = on_lost
        self._on_superseded = on_superseded
        self._on_reopen = on_reopen
        self._current = 0
        self._more = False
        self._refused = False
        self._refusals = 0
        self.answered = True
        self._channel: grpc.Channel | None = None
        self._stop = threading.Event()
        self._wake = session.wake
        self._asked_lock = threading.Lock()
        self._asked: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="atlasqueue-heartbeat", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; waits for the thread."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10)
        if self._channel is not None:
            self._channel.close()

    def beat_now(self, done: Callable[[], None]) -> None:
        """Sends a heartbeat at once; `done` is called, from its thread, when one was answered."""
        with self._asked_lock:
            self._asked.append(done)
        self._wake.set()

    def _run(self) -> None:
        backoff = Backoff(first=0.2, longest=2.0)
        while True:
            self._wake.clear()
            # Looked at after the clear, so that a stop before it is seen and one after it wakes.
            if self._stop.is_set():
                return
            with self._asked_lock:
                asked, self._asked = self._asked, []
            self.answered = self._answers()
            if self.answered:
                backoff.reset()
                for done in asked:
                    done()
                self._wake.wait(self._session.clocks.heartbeat)
            else:
                with self._asked_lock:
                    self._asked = asked + self._asked
                self._held.set_uncertain(True)
                self._refusals = self._refusals + 1 if self._refused else 0
                # A server that answers is there, and what it lacks the others may lack too.
                if not self._refused or self._refusals % REFUSALS_MAX == 0:
                    self._next_server()
                interval = self._session.clocks.heartbeat
                self._stop.wait(min(interval, 0.05 + backoff.next_delay()))

    def _answers(self) -> bool:
        """Heartbeats until all that was told has gone; False when no server has answered."""
        try:
            while self._beat():
                if not self._more or self._stop.is_set():
                    return True
        except Exception:
            # Without this thread every lease would be lost, whatever went wrong.
            log.exception("heartbeat_broken")
        return False

    def _stub(self) -> worker_service_pb2_grpc.WorkerServiceStub:
        if self._channel is None:
            self._channel = open_channel(self._servers[self._current], self._tls)
        return worker_service_pb2_grpc.WorkerServiceStub(self._channel)

    def _next_server(self) -> None:
        """Another server, and a new connection in any case: the one before may be dead without a word."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._current = (self._current + 1) % len(self._servers)

    def _beat(self) -> bool:
        """One heartbeat; False when no server has answered. Sets `_more` when another one is due at once."""
        self._more = False
        session_id, epoch = self._session.named()
        if not session_id or self._stop.is_set():
            return True
        jobs, last_fence = self._held.snapshot()
        listed, told, self._more = self._held.to_proto(jobs)
        request = worker_service_pb2.HeartbeatRequest(
            session_id=session_id, epoch=epoch, held=listed, last_fence=last_fence
        )
        self._refused = False
        timeout = min(max(CALL_TIMEOUT_MIN_S, self._session.clocks.heartbeat), CALL_TIMEOUT_MAX_S)
        try:
            response = self._stub().Heartbeat(request, timeout=timeout)
        except grpc.RpcError as error:
            failure = from_rpc_error(error)
            if not isinstance(failure, InvalidField):
                for job in jobs:
                    if job.fence in told:
                        job.give_back_told(told[job.fence])
            return self._failed(failure, session_id, epoch)
        self._held.set_uncertain(False)
        self._answered(response)
        return True

    def _failed(self, failure: AtlasQueueError, session_id: int, epoch: int) -> bool:
        self._more = False
        if isinstance(failure, SessionLost):
            if self._session.forget(session_id):
                log.warning("session_lost", session=session_id)
                self._held.lose_all()
                self._on_lost()
            return True
        if isinstance(failure, SessionSuperseded):
            # An answer to a heartbeat that a newer stream of our own has overtaken means nothing.
            if self._session.named() == (session_id, epoch):
                log.error("session_superseded", session=session_id, epoch=epoch)
                self._on_superseded()
            return True
        self._refused = isinstance(failure, DatabaseUnavailable | Overloaded)
        log.warning("heartbeat_failed", server=self._servers[self._current], error=str(failure))
        return False

    def _answered(self, response: worker_service_pb2.HeartbeatResponse) -> None:
        for lease in response.lost:
            if self._held.lose(lease.fence):
                log.warning("lease_lost", queue=lease.queue, job=lease.job_id, fence=lease.fence)
        for lease in response.cancel:
            if job := self._held.get(lease.fence):
                job.cancel()
        interval = response.heartbeat_interval.ToTimedelta().total_seconds()
        if interval > 0:
            self._session.clocks.heartbeat = interval
        if response.stream == worker_service_pb2.STREAM_STATE_REOPEN:
            self._on_reopen()
