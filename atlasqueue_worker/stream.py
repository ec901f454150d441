"""The lease stream: opened, watched, opened again, on one server after another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import structlog

from atlasqueue.channel import Tls, open_aio_channel
from atlasqueue.errors import InvalidField, SessionLost, SessionSuperseded, from_rpc_error
from atlasqueue.retry import Backoff
from atlasqueue.v1 import worker_service_pb2, worker_service_pb2_grpc
from atlasqueue_worker.held import Held
from atlasqueue_worker.job import JobContext, leased_together
from atlasqueue_worker.session import Session

# A stream without an event for so many pings' time is dead; with pings each 5 s, after 12.5 s.
PINGS_MISSED_MAX = 2.5
# An outage is over for this worker at most so long after it is over.
REOPEN_S_MAX = 2.0
WATCH_S = 0.5

log = structlog.get_logger("atlasqueue.worker")


class Stream:
    """Brings leased jobs. Run `run` as a task; cancel it to stop taking jobs."""

    def __init__(
        self,
        servers: Sequence[str],
        tls: Tls | None,
        terms: worker_service_pb2.LeaseRequest,
        session: Session,
        held: Held,
        on_jobs: Callable[[list[JobContext]], None],
    ) -> None:
        self.session_opened = asyncio.Event()
        self._servers = list(servers)
        self._tls = tls
        self._terms = terms
        self._session = session
        self._held = held
        self._on_jobs = on_jobs
        self._current = 0
        self._call: Any = None
        self._heard_at = 0.0
        self._open = False
        self._wait_s = 0.0
        self._channel: grpc.aio.Channel | None = None

    async def run(self) -> None:
        """Keeps a stream open.

        Raises SessionSuperseded when another process took the session over, InvalidField when the server
        refuses what the worker asks for.
        """
        backoff = Backoff(longest=REOPEN_S_MAX)
        try:
            while True:
                self._wait_s = 0.0
                began = time.monotonic()
                if not await self._once():
                    self._current = (self._current + 1) % len(self._servers)
                else:
                    backoff.reset_if_lived(time.monotonic() - began)
                await asyncio.sleep(self._wait_s + backoff.next_delay())
        finally:
            if self._channel is not None:
                await self._channel.close()

    @property
    def alive(self) -> bool:
        """Whether the stream is open and was heard of late."""
        limit = PINGS_MISSED_MAX * self._session.clocks.ping
        return self._open and time.monotonic() - self._heard_at < limit

    def reopen(self) -> None:
        """The server says that the session has no stream: drop this one if it is silent."""
        silent = time.monotonic() - self._heard_at
        if self._call is not None and silent > self._session.clocks.ping:
            self._drop(self._call)

    def restart(self) -> None:
        """The session is lost: ends its stream, so that the next one asks for a new session."""
        if self._call is not None and not self._session.named()[0]:
            self._call.cancel()

    def _drop(self, call: Any) -> None:
        """Ends a silent stream; the next one is another server's."""
        if self._open:
            # One that never opened is passed over anyway. Who takes connections and carries nothing would
            # be chosen again and again.
            self._open = False
            self._current = (self._current + 1) % len(self._servers)
        call.cancel()

    async def _once(self) -> bool:
        """One stream, from opening to end; whether it ever opened."""
        request = self._request()
        if self._channel is not None:
            await self._channel.close()
        self._channel = open_aio_channel(self._servers[self._current], self._tls)
        call: Any = worker_service_pb2_grpc.WorkerServiceStub(self._channel).Lease(request)
        self._call = call
        self._touch()
        watchdog = asyncio.create_task(self._watch(call))
        opened = False
        try:
            async for event in call:
                self._touch()
                opened = True
                self._handle(event)
        except grpc.RpcError as error:
            self._ended(error, request.session_id)
        except asyncio.CancelledError:
            # Either this task or, by the watchdog, the call was cancelled: only the latter goes on.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        finally:
            watchdog.cancel()
            call.cancel()
            self._call = None
            self._open = False
        return opened

    def _request(self) -> worker_service_pb2.LeaseRequest:
        session_id, epoch = self._session.next_epoch()
        request = worker_service_pb2.LeaseRequest()
        request.CopyFrom(self._terms)
        request.uniform = True
        if session_id:
            request.session_id = session_id
            request.epoch = epoch
            request.last_fence = self._held.last_fence
        return request

    def _touch(self) -> None:
        self._heard_at = time.monotonic()

    async def _watch(self, call: Any) -> None:
        while True:
            limit = PINGS_MISSED_MAX * self._session.clocks.ping
            left = self._heard_at + limit - time.monotonic()
            if left <= 0:
                log.warning("stream_silent", server=self._servers[self._current])
                self._drop(call)
                return
            # The server may name a shorter interval meanwhile.
            await asyncio.sleep(min(left, WATCH_S))

    def _handle(self, event: worker_service_pb2.LeaseResponse) -> None:
        match event.WhichOneof("event"):
            case "leased_jobs":
                jobs = [JobContext(leased) for leased in event.leased_jobs.jobs]
                for uniform in event.leased_jobs.uniform:
                    jobs += leased_together(uniform)
                self._held.add(jobs)
                self._on_jobs(jobs)
            case "session_opened":
                self._session.opened_as(event.session_opened)
                self._open = True
                self.session_opened.set()
                log.info(
                    "session_opened",
                    session=event.session_opened.session_id,
                    epoch=event.session_opened.epoch,
                    server=event.session_opened.server_id,
                )
            case "cancel_requested":
                for lease in event.cancel_requested.jobs:
                    if job := self._held.get(lease.fence):
                        job.cancel()
            case "go_away":
                self._wait_s = event.go_away.reconnect_after.ToTimedelta().total_seconds()
                self._current = (self._current + 1) % len(self._servers)

    def _ended(self, error: grpc.RpcError, session_id: int) -> None:
        failure = from_rpc_error(error)
        if isinstance(failure, SessionLost):
            if self._session.forget(session_id or self._session.named()[0]):
                log.warning("session_lost", session=session_id)
                self._held.lose_all()
        elif isinstance(failure, SessionSuperseded | InvalidField):
            # What is refused once is refused for ever.
            raise failure
        else:
            log.warning("stream_ended", server=self._servers[self._current], error=str(failure))
