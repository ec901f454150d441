# Generated from async_calls.py by scripts/async_to_sync.py (`make generate`). Do not edit.
"""Calls on a list of servers: one channel each, the next one when one does not answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

from atlasqueue.channel import Tls, open_channel, parse_addresses
from atlasqueue.errors import AtlasQueueError, DeadlineExceeded, Unavailable, from_rpc_error
from atlasqueue.jobs import filled
from atlasqueue.retry import Backoff
from atlasqueue.tracing import Metadata
from atlasqueue.v1 import (
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    queue_service_pb2_grpc,
)

# Within less no stream is sure to be open.
SHORT_WATCH_S = 0.1
# Who has no time to wait looks once, and again for so long where no server answers.
LOOK_AGAIN_S = 1.0
# Thirty years; to gRPC a deadline much further away has passed.
LONGEST_S = 1e9
SETTLED = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_CANCELLED, job_pb2.JOB_STATE_DEAD)


class Stubs:
    """The stubs on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.jobs = job_service_pb2_grpc.JobServiceStub(channel)
        self.queues = queue_service_pb2_grpc.QueueServiceStub(channel)


class Calls:
    """Makes calls. `timeout` bounds one try, `retry_for` all tries of one call (seconds)."""

    def __init__(
        self,
        addresses: str | Sequence[str] | None,
        *,
        tls: Tls | None,
        timeout: float,
        retry_for: float,
    ) -> None:
        # Written so that NaN is refused.
        if not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, is {timeout}")
        if not retry_for >= 0:
            raise ValueError(f"retry_for must be 0 seconds or more, is {retry_for}")
        self._addresses = parse_addresses(addresses)
        self._tls = tls
        self._timeout = min(timeout, LONGEST_S)
        self._retry_for = retry_for
        self._stubs: dict[str, Stubs] = {}
        self._current = 0
        self._closed = False

    def stubs(self) -> Stubs:
        """The stubs of the server that is called now. Raises RuntimeError after `close`."""
        if self._closed:
            # A channel that is opened now nobody would close.
            raise RuntimeError("the client is closed: make a new one")
        address = self._addresses[self._current]
        if address not in self._stubs:
            self._stubs[address] = Stubs(open_channel(address, self._tls))
        return self._stubs[address]

    def leave(self, stubs: Stubs) -> None:
        """Calls another server than that of `stubs` from now on, if one is known.

        Of several calls that failed on one server, the first leaves it; the others follow.
        """
        if self._stubs.get(self._addresses[self._current]) is stubs:
            self._current = (self._current + 1) % len(self._addresses)

    def call(
        self,
        pick: Callable[[Stubs], Any],
        request: Any,
        metadata: Metadata | None = None,
        retry_for_max: float = math.inf,
    ) -> Any:
        """Calls until there is an answer. Only for calls that are safe to repeat.

        Raises an AtlasQueueError; Unavailable or DeadlineExceeded when `retry_for` is over, or
        `retry_for_max` if that is less (seconds).
        """
        backoff = Backoff()
        give_up_at = time.monotonic() + min(self._retry_for, retry_for_max)
        while True:
            stubs = self.stubs()
            try:
                return pick(stubs)(request, timeout=self._timeout, metadata=metadata)
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
                if not isinstance(failure, Unavailable | DeadlineExceeded):
                    raise failure from error
                # Also for who is not repeated here: the caller's next call is for the next server.
                self.leave(stubs)
                if time.monotonic() >= give_up_at:
                    raise failure from error
            time.sleep(backoff.next_delay())

    def watch(self, job_id: str, queue: str, timeout: float | None) -> Iterator[job_pb2.Job]:
        """The job now, then at each change, until it has settled. Goes on when a server goes away.

        Raises an AtlasQueueError; DeadlineExceeded after `timeout` seconds, Unavailable when nobody has
        answered for `retry_for`.
        """
        end_at = math.inf if timeout is None else time.monotonic() + min(timeout, LONGEST_S)
        if timeout is not None and timeout < SHORT_WATCH_S:
            # Who looks for the last time is told where the job stands, not that the time is over.
            asked = filled(job_service_pb2.GetJobRequest, queue=queue, job_id=job_id)
            now = self.call(lambda stubs: stubs.jobs.GetJob, asked, retry_for_max=LOOK_AGAIN_S)
            yield now.job
            if now.job.state in SETTLED:
                return
        request = filled(job_service_pb2.WatchJobRequest, queue=queue, job_id=job_id)
        give_up_at = time.monotonic() + self._retry_for
        backoff = Backoff()
        silence = ""
        while (began := time.monotonic()) < end_at:
            stubs = self.stubs()
            left = None if timeout is None else end_at - began
            stream: Any = stubs.jobs.WatchJob(request, timeout=left)
            failure: AtlasQueueError = Unavailable("the watch ended before the job had settled")
            answered = False
            try:
                for response in stream:
                    answered = True
                    yield response.job
                    if response.job.state in SETTLED:
                        return
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
                if not isinstance(failure, Unavailable | DeadlineExceeded):
                    raise failure from error
            finally:
                stream.cancel()
            ended = time.monotonic()
            if answered:
                # A job may stand for long: nobody has answered only since its stream broke.
                give_up_at = ended + self._retry_for
                backoff.reset_if_lived(ended - began)
            silence = "" if answered else f" ({failure})"
            if not (answered and isinstance(failure, DeadlineExceeded)):
                self.leave(stubs)
            if give_up_at <= ended < end_at:
                raise failure
            time.sleep(max(0.0, min(backoff.next_delay(), end_at - ended)))
        raise DeadlineExceeded(f"job {job_id} has not settled within {timeout} s{silence}")

    def close(self) -> None:
        """Closes the channels. Calls that wait end, later ones raise RuntimeError."""
        self._closed = True
        opened, self._stubs = self._stubs, {}
        for stubs in opened.values():
            stubs.channel.close()
