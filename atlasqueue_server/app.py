"""Puts a server together, runs it, and takes it down in order.

start   schema checked ─▶ pool ─▶ domain ─▶ gRPC and HTTP ports ─▶ scheduler
drain   scheduler resigns ─▶ health says NOT_SERVING ─▶ no more leases, streams told to go away
stop    calls in flight end ─▶ what was let in is committed ─▶ ports, pool
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import signal
import sys
import time
from collections.abc import Mapping

import structlog
import uuid_utils

from atlasqueue.v1 import job_service_pb2, queue_service_pb2, worker_service_pb2
from atlasqueue_server import traces
from atlasqueue_server.config import ServerConfig
from atlasqueue_server.domain import supervise
from atlasqueue_server.domain.cancel import Canceller
from atlasqueue_server.domain.cancel_many import ManyCanceller
from atlasqueue_server.domain.checkup import Checkup
from atlasqueue_server.domain.cluster import Cluster
from atlasqueue_server.domain.dead_letters import DeadLetters
from atlasqueue_server.domain.dispatch import Dispatcher
from atlasqueue_server.domain.enqueue import Enqueuer
from atlasqueue_server.domain.heartbeats import Heartbeats
from atlasqueue_server.domain.jobs import Jobs
from atlasqueue_server.domain.links import Links
from atlasqueue_server.domain.loop_lag import LoopLag
from atlasqueue_server.domain.observe import Observer
from atlasqueue_server.domain.queues import Queues
from atlasqueue_server.domain.report import Reporter
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.domain.watch import Watcher
from atlasqueue_server.domain.workers import Workers
from atlasqueue_server.http.app import build_app
from atlasqueue_server.http.server import HttpServer
from atlasqueue_server.member import Member
from atlasqueue_server.metrics import Metrics
from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import DatabaseUnavailable, Unavailable
from atlasqueue_server.observe import DatabaseCollector, ServerCollector
from atlasqueue_server.rpc import health
from atlasqueue_server.rpc.binding import Rpc, bind
from atlasqueue_server.rpc.jobs import JobHandlers
from atlasqueue_server.rpc.queues import QueueHandlers
from atlasqueue_server.rpc.server import GrpcOptions, GrpcServer
from atlasqueue_server.rpc.workers import WorkerHandlers
from atlasqueue_server.scheduler.duties import Duties
from atlasqueue_server.scheduler.leader import Leader
from atlasqueue_server.scheduler.observe import LoopCollector
from atlasqueue_server.startup import StartupError, address, known_as
from atlasqueue_server.store.cluster import ping
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.fitness import UnfitDatabase
from atlasqueue_server.store.migrations import check_schema
from atlasqueue_server.version import VERSION

log = structlog.get_logger("atlasqueue.server")


class Application:
    """One server process. Call start, then drain, then stop."""

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.server_id = f"server-{str(uuid_utils.uuid7())[-12:]}"
        self.grpc_port = 0
        self.http_port = 0
        self.metrics = Metrics(VERSION)
        self.database = Database(
            config.database_url.get_secret_value(),
            connections_min=config.database_pool_min,
            connections_max=config.database_pool_max,
        )
        # Calls may use all links of the pool, for as long as a statement may take. What keeps leases alive, and the
        # scheduler, does not wait for them.
        self.reserved = Database(
            self.database.url, connections_min=1, connections_max=limits.RESERVED_CONNECTIONS
        )
        self.signals = Signals()
        journal = self.metrics.journal
        self.queues = Queues(self.database, self.signals)
        self.jobs = Jobs(self.database, self.queues)
        self.watcher = Watcher(self.database, self.jobs, self.signals)
        self.reporter = Reporter(self.database, self.signals, journal)
        self.dispatcher = Dispatcher(self.database, self.signals, journal)
        self.enqueuer = Enqueuer(
            self.database, self.queues, self.signals, self.dispatcher.free_lane, journal
        )
        self.workers = Workers(
            self.database,
            self.queues,
            self.dispatcher,
            self.signals,
            self.server_id,
            # Sooner than their connection, so that a stream ends with a GoAway and is not cut.
            config.max_connection_age_seconds * 0.9 or math.inf,
            journal,
            Heartbeats(self.reserved, lambda: len(self.dispatcher.sessions)),
        )
        self.checkup = Checkup(self.database, self.dispatcher)
        self.links = Links(self.reserved, self.signals, self.server_id)
        duties = Duties(self.reserved, self.signals, config.leader_lease_seconds, journal)
        self.leader = Leader(
            self.reserved,
            self.server_id,
            duties.loops,
            config.leader_lease_seconds,
            self.signals,
            lambda: duties.renewed_at,
        )
        self._lag = LoopLag()
        self._observer = Observer(self.database)
        self._register_collectors()
        rpcs = self._bind()
        options = GrpcOptions(
            max_connection_age_s=config.max_connection_age_seconds,
            write_timeout_s=config.write_timeout_seconds,
        )
        self._grpc = GrpcServer(rpcs, self._database_serves, self.metrics, options=options)
        app = build_app(
            rpcs,
            self.metrics,
            self._readiness,
            write_timeout_s=config.write_timeout_seconds,
        )
        self._http = HttpServer(app)
        self._election: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._lagging: asyncio.Task[None] | None = None
        self._draining = False

    def _register_collectors(self) -> None:
        register = self.metrics.registry.register
        register(LoopCollector(self.leader))
        register(ServerCollector(self.dispatcher, self.database, self._lag))
        register(DatabaseCollector(self._observer, self.metrics.names))
        self.metrics.before_scrape.append(self._observer.refresh)

    def _bind(self) -> list[Rpc]:
        canceller = Canceller(self.database, self.jobs, self.signals, self.metrics.journal)
        many_canceller = ManyCanceller(
            self.database, self.queues, self.jobs, self.signals, self.metrics.journal
        )
        dead_letters = DeadLetters(self.database, self.queues, self.signals, self.metrics.journal)
        services = {
            job_service_pb2.DESCRIPTOR.services_by_name["JobService"]: JobHandlers(
                self.enqueuer, self.jobs, canceller, many_canceller, self.watcher
            ),
            worker_service_pb2.DESCRIPTOR.services_by_name["WorkerService"]: WorkerHandlers(
                self.workers,
                self.reporter,
                self.dispatcher,
                self.server_id,
                self.config.ping_interval_seconds,
            ),
            queue_service_pb2.DESCRIPTOR.services_by_name["QueueService"]: QueueHandlers(
                self.queues, dead_letters, Cluster(self.database)
            ),
        }
        return [
            rpc
            for service, handlers in services.items()
            for rpc in bind(service, handlers, self.metrics)
        ]

    async def start(self, *, reuse_port: bool = False) -> None:
        """Serves. Raises StartupError when the database or a port cannot be had.

        With `reuse_port` other processes may listen on the gRPC port too; the HTTP port is never shared.
        """
        try:
            version = await check_schema(self.database.url)
        except (UnfitDatabase, DatabaseUnavailable) as error:
            raise StartupError(str(error)) from error
        await self.database.open()
        await self.reserved.open()
        host, tls = self.config.host, self.config.tls
        try:
            self.grpc_port = await self._grpc.start(
                host, self.config.grpc_port, tls=tls, reuse_port=reuse_port
            )
            self.http_port = await self._http.start(host, self.config.http_port, tls=tls)
        except StartupError:
            await self._grpc.stop(0)
            await self._close_databases()
            raise
        await self.links.start(known_as(host, self.grpc_port), VERSION)
        self._looking = supervise.start("checkup", self.checkup.run)
        self._election = supervise.start("leader", self.leader.run)
        self._lagging = supervise.start("loop_lag", self._lag.run)
        log.info(
            "serving",
            server=self.server_id,
            grpc=address(host, self.grpc_port),
            http=address(host, self.http_port),
            schema=version,
        )

    async def drain(self) -> None:
        """Clients go elsewhere: health says so, another leads, streams are told to go away."""
        self._draining = True
        await supervise.stop(self._election)
        await self._grpc.drain()
        self.dispatcher.drain()
        self.watcher.close()

    async def stop(self) -> None:
        """Ends in order; what was let in is committed first."""
        ends_at = time.monotonic() + self.config.drain_grace_seconds
        await self._grpc.stop(self.config.drain_grace_seconds)
        # Until here it told that this server drains. One grace is for both.
        await self._http.stop(max(0.0, ends_at - time.monotonic()))
        await supervise.stop(self._looking, self._lagging)
        await self._observer.close()
        await self.enqueuer.close()
        await self.reporter.close()
        await self.workers.heartbeats.close()
        await self.dispatcher.close()
        await self.links.stop()
        await self._close_databases()
        log.info("stopped", server=self.server_id)

    async def _close_databases(self) -> None:
        await self.reserved.close()
        await self.database.close()

    async def _database_serves(self) -> bool:
        # The server's own statements ask twice a second and more; what they found is as good as a ping.
        pools = (self.database, self.reserved)
        silent_s = time.monotonic() - max(pool.answered_at for pool in pools)
        if silent_s < health.INTERVAL_S and not any(pool.read_only for pool in pools):
            return True
        return await self._database_state() == "ok"

    async def _database_state(self) -> str:
        try:
            takes_writes = await ping(self.database)
            if self.reserved.read_only:
                takes_writes &= await ping(self.reserved)
        except Unavailable:
            return "does not answer"
        return "ok" if takes_writes else "takes no writes: is it a standby?"

    async def _readiness(self) -> Mapping[str, str]:
        return {
            "database": await self._database_state(),
            "draining": "draining" if self._draining else "ok",
        }


async def serve(config: ServerConfig, member: Member | None = None) -> None:
    """Serves until SIGTERM or SIGINT; a second one ends at once. `member`: as one of several processes."""
    traced = traces.configure()
    application = Application(config)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await application.start(reuse_port=member is not None)
    if member is not None:
        member.serving(application.grpc_port, application.http_port)
        member.when_alone(stopping.set)
    if traced:
        log.info("tracing", by="OTLP, as the OTEL_* variables say")
    try:
        await stopping.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        log.info("draining", grace_s=config.drain_grace_seconds)
    finally:
        await application.drain()
        await application.stop()
        await asyncio.to_thread(traces.shutdown)


def run(config: ServerConfig, member: Member | None = None) -> int:
    """Runs a server in this process; the exit code. Raises StartupError."""
    _calm_garbage_collection()
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        runner.run(serve(config, member))
    return 0


def _calm_garbage_collection() -> None:
    """Batches are thousands of objects that live for a moment and form no cycles.

    With the default threshold of 700 the collector walked them over and over: a tenth of all CPU. Streams
    that end do form cycles: with 50 000 those of a thousand streams waited in 5 MB.
    """
    gc.freeze()
    gc.set_threshold(10_000, 50, 50)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop  # type: ignore[return-value]
