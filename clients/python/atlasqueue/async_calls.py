"""Calls on a list of servers: one channel each, the next one when one does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from atlasqueue.channel import Tls, open_aio_channel, parse_addresses
from atlasqueue.errors import DeadlineExceeded, Unavailable, from_rpc_error
from atlasqueue.retry import Backoff
from atlasqueue.tracing import Metadata
from atlasqueue.v1 import job_service_pb2_grpc, queue_service_pb2_grpc


class AsyncStubs:
    """The stubs on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.jobs = job_service_pb2_grpc.JobServiceStub(channel)
        self.queues = queue_service_pb2_grpc.QueueServiceStub(channel)


class AsyncCalls:
    """Makes calls. `timeout` bounds one try, `retry_for` all tries of one call (seconds)."""

    def __init__(
        self,
        addresses: str | Sequence[str] | None,
        *,
        tls: Tls | None,
        timeout: float,
        retry_for: float,
    ) -> None:
        self._addresses = parse_addresses(addresses)
        self._tls = tls
        self._timeout = timeout
        self._retry_for = retry_for
        self._stubs: dict[str, AsyncStubs] = {}
        self._current = 0

    def stubs(self) -> AsyncStubs:
        """The stubs of the server that is called now."""
        address = self._addresses[self._current]
        if address not in self._stubs:
            self._stubs[address] = AsyncStubs(open_aio_channel(address, self._tls))
        return self._stubs[address]

    def leave(self, stubs: AsyncStubs) -> None:
        """Calls another server than that of `stubs` from now on, if one is known.

        Of several calls that failed on one server, the first leaves it; the others follow.
        """
        if self._stubs.get(self._addresses[self._current]) is stubs:
            self._current = (self._current + 1) % len(self._addresses)

    async def call(
        self,
        pick: Callable[[AsyncStubs], Any],
        request: Any,
        metadata: Metadata | None = None,
    ) -> Any:
        """Calls until there is an answer. Only for calls that are safe to repeat.

        Raises an AtlasQueueError; Unavailable or DeadlineExceeded when `retry_for` is over.
        """
        backoff = Backoff()
        give_up_at = time.monotonic() + self._retry_for
        while True:
            stubs = self.stubs()
            try:
                return await pick(stubs)(request, timeout=self._timeout, metadata=metadata)
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
                retryable = isinstance(failure, Unavailable | DeadlineExceeded)
                if not retryable or time.monotonic() >= give_up_at:
                    raise failure from error
            self.leave(stubs)
            await asyncio.sleep(backoff.next_delay())

    async def close(self) -> None:
        """Closes the channels."""
        for stubs in self._stubs.values():
            await stubs.channel.close()
        self._stubs.clear()
