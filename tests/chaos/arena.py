"""One run's world: a PostgreSQL of its own, server and worker processes, a history.

Everything listens on loopback, and everything that is started ends with the arena. Every server connects
to the database under a role of its own, so that the journal knows which one made a move.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from atlasqueue import AsyncClient, QueuePolicy, RetryPolicy
from atlasqueue_server.embedded import EmbeddedPostgres
from atlasqueue_server.store.migrations import migrate
from tests.chaos.actors import Actor, start
from tests.chaos.names import DIRECTORY_VARIABLE, HANDLERS, QUEUE, WHO_VARIABLE
from tests.chaos.progress import Progress, Stuck
from tests.chaos.settings import Settings
from tests.history.clocks import WITNESS
from tests.history.events import Clock, Outage
from tests.history.final import install_journal
from tests.history.recorder import Recorder
from tests.plugins import standby as standbys
from tests.ports import free_port

PYTHON_WORKER = (sys.executable, "-m", "atlasqueue_worker", "run", HANDLERS)
CLOCK_EACH_S = 1.0
READY_S = 60.0


class Arena:
    """Start it, let a scenario play in it, end it."""

    def __init__(
        self,
        directory: Path,
        postgres: EmbeddedPostgres,
        settings: Settings,
        *,
        seed: int,
        short: bool,
        broken: str | None = None,
        standby: EmbeddedPostgres | None = None,
    ) -> None:
        self.directory = directory
        self.history = directory / "history"
        self.history.mkdir(parents=True)
        self.postgres = postgres
        self.standby = standby
        self.settings = settings
        self.short = short
        self.random = random.Random(seed)
        self.recorder = Recorder(self.history, WITNESS)
        self.progress = Progress(self.history)
        self.faults: list[str] = []
        self.fault_ends: list[float] = []
        self.notes: dict[str, str] = {}
        self.servers: dict[str, Actor] = {}
        self.workers: dict[str, Actor] = {}
        self.addresses: dict[str, str] = {}
        self.broken = broken
        self._passwords: dict[str, str] = {}
        self._starts: dict[str, int] = {}
        self._witness: threading.Event | None = None
        self._gone: list[Actor] = []
        self._clock: asyncio.Task[None] | None = None

    # --- the world ---

    @property
    def url(self) -> str:
        """The database, as its owner."""
        return self.postgres.url

    @property
    def server_list(self) -> str:
        """The servers' addresses, as clients take them."""
        return ",".join(self.addresses.values())

    def of(self, short: int, full: int) -> int:
        """A number by the form of the run."""
        return short if self.short else full

    async def open(self) -> None:
        """Database, servers and workers are up, and one server leads."""
        self._witness = self.recorder.witness()
        self._clock = asyncio.create_task(self._tell_clock())
        await migrate(self.url)
        await asyncio.to_thread(install_journal, self.url)
        for number in range(1, self.settings.servers + 1):
            self.start_server(f"server_{number}")
        await self.ready()
        async with self.client() as client:
            await client.queues.update_policy(QUEUE, self._policy())
        for number in range(1, self.settings.workers + 1):
            self.start_worker(f"worker_{number}")

    def _policy(self) -> QueuePolicy:
        retry = RetryPolicy(
            initial_backoff=timedelta(milliseconds=100), max_backoff=timedelta(milliseconds=500)
        )
        return QueuePolicy(retry, timedelta(seconds=self.settings.visibility_timeout_s))

    async def _tell_clock(self) -> None:
        # The database runs on this machine, so its clock is this process's.
        while True:
            self.recorder.record(Clock, database=time.time())
            await asyncio.sleep(CLOCK_EACH_S)

    def client(self, **options: Any) -> AsyncClient:
        """A client of all servers, with default retries."""
        return AsyncClient(self.server_list, **options)

    async def ready(self) -> None:
        """Waits until all servers that run answer, and one leads."""
        for role, actor in self.servers.items():
            if actor.poll() is None:
                async with AsyncClient(self.addresses[role], retry_for=READY_S) as client:
                    await client.cluster()
        await self.leader()

    async def close(self) -> None:
        """Ends everything; workers first, in order, so that nothing is left leased by them."""
        for actor in (*self.workers.values(), *self.servers.values(), *self._gone):
            actor.end()
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)
        if self._witness is not None:
            self._witness.set()

    # --- processes ---

    def start_server(self, role: str, *, prefix: Sequence[str] = (), **variables: str) -> Actor:
        """Starts a server, on its old port if it had one. `prefix` goes before the command."""
        port = self.addresses.setdefault(role, f"127.0.0.1:{free_port()}").rpartition(":")[2]
        broken = ["tests.broken.server", self.broken] if self.broken else ["atlasqueue_server"]
        command = [*prefix, sys.executable, "-m", *broken, "serve"]
        command += ["--grpc-port", port, "--http-port", "0"]
        environment = {
            "ATLASQUEUE_DATABASE_URL": self.url_for_role(role),
            "ATLASQUEUE_LEADER_LEASE_SECONDS": str(self.settings.leader_lease_s),
            "ATLASQUEUE_PING_INTERVAL_SECONDS": str(self.settings.ping_s),
            "ATLASQUEUE_DATABASE_POOL_MIN": "2",
            "ATLASQUEUE_DATABASE_POOL_MAX": str(self.settings.pool_max),
            "ATLASQUEUE_DRAIN_GRACE_SECONDS": "10",
        }
        return self._start(self.servers, role, command, environment | variables)

    def start_worker(
        self,
        role: str,
        *options: str,
        servers: str | None = None,
        prefix: Sequence[str] = (),
        program: Sequence[str] = PYTHON_WORKER,
        **variables: str,
    ) -> Actor:
        """Starts a worker under a new name. `program`: what has the flags of atlasqueue-worker run."""
        command = [*prefix, *program]
        command += ["--server", servers or self.server_list, "--slots", str(self.settings.slots)]
        command += ["--grace", "10", "--queues", QUEUE, "--name", self._next_name(role)]
        command += options
        return self._start(self.workers, role, command, dict(variables), named=True)

    def start_other(self, name: str, command: Sequence[str]) -> Actor:
        """Starts a process of the scenario's own, which writes its own history as `name`."""
        variables = {DIRECTORY_VARIABLE: str(self.history)}
        log = self.directory / f"{name}.log"
        self.workers[name] = start(self.recorder, name, name, command, log, variables)
        return self.workers[name]

    def _next_name(self, role: str) -> str:
        self._starts[role] = self._starts.get(role, 0) + 1
        return f"{role}.{self._starts[role]}"

    def _start(
        self,
        actors: dict[str, Actor],
        role: str,
        command: Sequence[str],
        environment: dict[str, str],
        *,
        named: bool = False,
    ) -> Actor:
        who = f"{role}.{self._starts[role]}" if named else self._next_name(role)
        environment |= {WHO_VARIABLE: who, DIRECTORY_VARIABLE: str(self.history)}
        if role in actors:
            self._gone.append(actors[role])
        actor = start(
            self.recorder, who, role, command, self.directory / f"{role}.log", environment
        )
        actors[role] = actor
        return actor

    async def restarted(self, role: str) -> Actor:
        """Starts a server again and waits until it answers."""
        actor = self.start_server(role)
        async with AsyncClient(self.addresses[role], retry_for=READY_S) as client:
            await client.cluster()
        actor.tell_back()
        self.recovers()
        return actor

    def deaths(self) -> list[str]:
        """The processes that ended without being told to."""
        actors = (*self.servers.values(), *self.workers.values(), *self._gone)
        return [f"{actor.who} (see {actor.log.name})" for actor in actors if actor.died]

    # --- faults ---

    def strike(self, fault: str) -> None:
        """Notes a fault for the table."""
        self.faults.append(fault)

    def recovers(self) -> None:
        """The last fault is over: the time to full rate counts from here."""
        self.fault_ends.append(time.monotonic())

    def pick(self, actors: dict[str, Actor]) -> Actor:
        """One of the running processes, by the seed."""
        running = sorted(role for role, actor in actors.items() if actor.poll() is None)
        return actors[self.random.choice(running)]

    async def leader(self, *, not_role: str = "", within_s: float = READY_S) -> Actor:
        """The server that leads now. Raises Stuck when none does in time."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            rows = await self.sql(
                "select t.actor from atlasqueue.leader l, journal.terms t"
                " where l.expires_at > clock_timestamp() and t.term = l.term limit 1"
            )
            if rows and rows[0][0] != not_role and rows[0][0] in self.servers:
                return self.servers[rows[0][0]]
            await asyncio.sleep(0.05)
        raise Stuck(f"no server leads after {within_s:g} s")

    async def leads_and_ticks(self, role: str) -> None:
        """Waits until a server leads and has ticked twice in its term."""
        while (await self.leader()).role != role:
            await asyncio.sleep(0.05)
        ticks = "select count(distinct ticked_at) from journal.terms where actor = %(role)s and at > %(since)s"
        ((since,),) = await self.sql("select clock_timestamp()")
        while (await self.sql(ticks, role=role, since=since))[0][0] < 2:
            await asyncio.sleep(0.05)

    async def restart_postgres(self, *, down_s: float = 0.0) -> None:
        """Stops PostgreSQL as a crash would, and starts it again on the same data."""
        self.recorder.record(Outage, who="database", ended=False)
        await asyncio.to_thread(self.postgres.stop, "immediate")
        await asyncio.sleep(down_s)
        await asyncio.to_thread(self.postgres.restart, "immediate")
        self.recorder.record(Outage, who="database", ended=True)
        self.recovers()

    async def fail_over(self, *, cut_off_s: float, down_s: float) -> None:
        """The standby hears nothing more, then the primary is killed, then the standby is promoted.

        From here on `postgres` is the one that was promoted.
        """
        assert self.standby is not None
        self.recorder.record(Outage, who="database", ended=False)
        await asyncio.to_thread(standbys.cut_off, self.standby)
        await asyncio.sleep(cut_off_s)
        await asyncio.to_thread(standbys.kill, self.postgres)
        await asyncio.sleep(down_s)
        await asyncio.to_thread(standbys.promote, self.standby)
        self.postgres, self.standby = self.standby, None
        self.recorder.record(Outage, who="database", ended=True)
        self.recovers()

    # --- the database, as an operator ---

    async def sql(self, statement: str, **params: Any) -> list[tuple[Any, ...]]:
        """Rows of a plain statement; tried again while the database is away."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self.url, autocommit=True, connect_timeout=5
                ) as connection:
                    cursor = await connection.execute(statement.encode(), params)
                    return await cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    def url_for_role(self, role: str) -> str:
        """The database as a role of the server's own, made on first use."""
        if role not in self._passwords:
            self._passwords[role] = secrets.token_hex(8)
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("create role {} superuser login password {}").format(
                        sql.Identifier(role), sql.Literal(self._passwords[role])
                    )
                )
        parts = urlsplit(self.url)
        place = f"{role}:{self._passwords[role]}@{parts.hostname}:{parts.port}"
        url = urlunsplit(parts._replace(netloc=place))
        return standbys.either(url, self.standby) if self.standby else url

    async def settle(self, wait_s: float = 120.0) -> None:
        """Waits until every job is finished or a dead letter. Raises Stuck."""
        deadline = time.monotonic() + wait_s
        while True:
            rows = await self.sql(
                """
                select
                    (select count(*) from atlasqueue.scheduled)
                    + (select count(*) from atlasqueue.ready)
                    + (select count(*) from atlasqueue.leased)
                """
            )
            if not rows[0][0]:
                return
            if time.monotonic() > deadline:
                raise Stuck(f"{rows[0][0]} jobs have not settled within {wait_s:g} s")
            await asyncio.sleep(0.1)
