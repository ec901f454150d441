"""grpc.health.v1: SERVING only while the database takes writes and the server is not draining."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2
from grpc_health.v1._async import HealthServicer

from atlasqueue_server.metrics import Metrics

INTERVAL_S: Final = 1.0
# A database that takes longer than this to answer a probe does not serve anybody.
PROBE_TIMEOUT_S: Final = 2.0

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_log = structlog.get_logger(__name__)

Probe = Callable[[], Awaitable[bool]]


class EndingHealthServicer(HealthServicer):  # type: ignore[misc]
    """The health service, whose watches end when the server drains.

    The library's never end, and a graceful stop of the server would wait for them in vain.
    """

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Task[None]] = set()

    async def Watch(self, request: Any, context: Any) -> None:
        watch = asyncio.create_task(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await asyncio.wait([watch])
            if not watch.cancelled():
                watch.result()
        finally:
            watch.cancel()
            self._watches.discard(watch)

    async def end(self) -> None:
        """Answer NOT_SERVING for good and end all watches."""
        await self.enter_graceful_shutdown()
        # One turn of the loop, in which the watches write what they were just woken for.
        await asyncio.sleep(0)
        for watch in self._watches:
            watch.cancel()


class Health:
    """Keeps the health service in step with `probe`, which is asked every second."""

    def __init__(
        self,
        services: Sequence[str],
        probe: Probe,
        metrics: Metrics,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.servicer: Final = EndingHealthServicer()
        self._names: Final = ("", *services, health.SERVICE_NAME)
        self._probe = probe
        self._metrics = metrics
        self._interval_s = interval_s
        self._serving: bool | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Probe once, then go on in the background."""
        await self._note(await self._answers())
        self._task = asyncio.create_task(self._run(), name="health")

    async def drain(self) -> None:
        """Answer NOT_SERVING from now on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._metrics.set_healthy(False)
        await self.servicer.end()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._note(await self._answers())

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await self._probe()
        except Exception as error:
            _log.debug("health probe failed", error=type(error).__name__)
            return False

    async def _note(self, serving: bool) -> None:
        if serving == self._serving:
            return
        if self._serving is not None or not serving:
            (_log.info if serving else _log.warning)("health changed", serving=serving)
        self._serving = serving
        self._metrics.set_healthy(serving)
        for name in self._names:
            await self.servicer.set(name, _SERVING if serving else _NOT_SERVING)


def add(servicer: HealthServicer, server: grpc.aio.Server) -> None:
    """Register the health service at `server`."""
    from grpc_health.v1 import health_pb2_grpc

    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
