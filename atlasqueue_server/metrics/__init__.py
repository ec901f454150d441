"""The registry of metrics and those that every RPC has. docs/metrics.md is the catalogue.

Each server has a registry of its own, so that tests may run several in one process.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable
from importlib.metadata import version as distribution_version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)

from atlasqueue_server.metrics.families import CounterFamily, HistogramFamily
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.metrics.names import Names

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


class Metrics:
    """What a server counts. `registry` is exposed at /metrics; other parts register there too."""

    def __init__(self, version: str) -> None:
        self.registry: Final = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Gauge(
            "atlasqueue_build_info",
            "Versions of the server and of what it runs on; always 1.",
            ["version", "python", "grpcio"],
            registry=self.registry,
        )
        build.labels(version, platform.python_version(), distribution_version("grpcio")).set(1)
        self.names: Final = Names()
        self.journal: Final = Journal(self.registry, self.names)
        # Awaited before each scrape: what has to be asked of others.
        self.before_scrape: list[Callable[[], Awaitable[None]]] = []
        self._calls = CounterFamily(
            self.registry,
            "atlasqueue_rpc_calls",
            "RPCs that have ended, by gRPC code (CANCELLED: the client went away).",
            ["transport", "rpc", "code"],
        )
        self._seconds = HistogramFamily(
            self.registry,
            "atlasqueue_rpc_seconds",
            "How long unary RPCs took.",
            ["rpc", "code"],
            _SECONDS,
        )
        self._open = Gauge(
            "atlasqueue_rpc_open", "RPCs that are running now.", ["rpc"], registry=self.registry
        )
        # Looking a child up by its labels costs more than counting.
        self._open_by_rpc: dict[str, Gauge] = {}
        self._healthy = Gauge(
            "atlasqueue_healthy",
            "1 while the database takes writes and the server is not draining.",
            registry=self.registry,
        )

    def rpc_started(self, rpc: str) -> None:
        """Count an RPC as running."""
        if rpc not in self._open_by_rpc:
            self._open_by_rpc[rpc] = self._open.labels(rpc)
        self._open_by_rpc[rpc].inc()

    def rpc_ended(self, rpc: str, transport: str, code: str, seconds: float | None) -> None:
        """Count an RPC as ended; `seconds` is None for streams, whose length says nothing."""
        self._open_by_rpc[rpc].dec()
        self._calls.inc((transport, rpc, code))
        if seconds is not None:
            self._seconds.observe((rpc, code), seconds)

    def rpc_refused(self, rpc: str, transport: str, code: str) -> None:
        """Count an RPC as ended that never ran."""
        self._calls.inc((transport, rpc, code))

    def set_healthy(self, healthy: bool) -> None:
        """Note what the health service answers."""
        self._healthy.set(1 if healthy else 0)
