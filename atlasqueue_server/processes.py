"""`--processes N`: several server processes behind one gRPC port, watched over by this one.

                     ┌──▶ process 0   gRPC 7420 (shared)   HTTP 7421
    this process ────┼──▶ process 1   gRPC 7420 (shared)   HTTP 7422
                     └──▶ …           each a full member of the cluster

Python uses one core a process, and gRPC does not survive a fork, so each is a fresh program. The kernel deals
new connections out among those that listen on the port with SO_REUSEPORT. This process serves nothing: it
holds the port's number, starts again what died, and passes a stop on.

To a child, standard input brings its settings (neither flags nor the environment of a process are a place
for passwords) and then says by its end that this process is gone; on standard output the child says that
it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Final

import structlog

from atlasqueue_server.config import ServerConfig
from atlasqueue_server.startup import BindError, address

CHILD_MODULE: Final = "atlasqueue_server.member"
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_CAP_S: Final = 30.0
# Who lived for so long did not die of what killed it the last time.
SETTLED_S: Final = 60.0
# Beyond the grace: batches are committed, connections closed.
STOP_MARGIN_S: Final = 15.0
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger("atlasqueue.processes")


def backoff_s(deaths_in_a_row: int) -> float:
    """How long to wait before the next start, in seconds; `deaths_in_a_row` counts from 1."""
    return float(min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(deaths_in_a_row - 1, 16)))


def settings_of(config: ServerConfig, number: int, grpc_port: int) -> dict[str, object]:
    """The settings of process `number`, as JSON can hold them: the shared port, an HTTP port of its own."""
    settings: dict[str, object] = config.model_dump(mode="json")
    settings["database_url"] = config.database_url.get_secret_value()
    http_port = config.http_port + number if config.http_port else 0
    return settings | {"processes": 1, "grpc_port": grpc_port, "http_port": http_port}


def hold_port(host: str, port: int) -> socket.socket:
    """A socket that keeps `port` (0: any free one) ours without listening on it. Raises BindError.

    A socket that does not listen gets no connections. SO_REUSEPORT would let two fleets share a port
    without a word, so the port is first asked for without it.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(where)
    except OSError as error:
        raise BindError("gRPC", host, port, error.strerror or str(error)) from error
    return held


@dataclass(slots=True)
class Child:
    """One of the processes, over all its starts. `serving` is set while the newest one serves."""

    number: int
    settings: bytes
    process: asyncio.subprocess.Process | None = None
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    has_served: bool = False
    told_to_stop: bool = False

    async def run_once(self) -> int:
        """Starts it and waits for its end; the exit code, negative for a signal."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            CHILD_MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C is for this process, which passes one signal on; two would end a child at once.
            start_new_session=True,
        )
        self.process = process
        if self.told_to_stop:
            # The word came while it was being started.
            self.stop()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):
            process.stdin.write(self.settings)
            await process.stdin.drain()
        async for line in process.stdout:
            if line.startswith(b"{"):
                self.has_served = True
                self.serving.set()
                log.info("process_serves", process=self.number, pid=process.pid, **json.loads(line))
        code = await process.wait()
        process.stdin.close()
        self.serving.clear()
        return code

    def stop(self) -> None:
        """SIGTERM, also to a start that is under way."""
        self.told_to_stop = True
        self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if it runs."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Processes:
    """The watch over `config.processes` servers."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._children: list[Child] = []
        self._stopping = asyncio.Event()
        self._signals = 0
        self._exit_code = 0

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT; a second one ends at once. The exit code. Raises BindError.

        0: all ended in order; 1: some had to be killed; else that of a process that could not start.
        """
        config = self._config
        with hold_port(config.host, config.grpc_port) as held:
            port = held.getsockname()[1]
            loop = asyncio.get_running_loop()
            for number in SIGNALS:
                loop.add_signal_handler(number, self._signalled, loop)
            self._children = [
                Child(number, json.dumps(settings_of(config, number, port)).encode() + b"\n")
                for number in range(config.processes)
            ]
            await self._watch_all(address(config.host, port))
        return self._exit_code

    async def _watch_all(self, where: str) -> None:
        first, *others = self._children
        watches = [asyncio.ensure_future(self._watch(first))]
        # What keeps one from starting keeps all: it should be said once.
        ready = asyncio.ensure_future(first.serving.wait())
        await asyncio.wait([ready, *watches], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self._stopping.is_set():
            watches += [asyncio.ensure_future(self._watch(child)) for child in others]
            log.info("processes_started", count=len(watches), grpc=where)
        await asyncio.gather(*watches)
        log.info("processes_stopped", exit_code=self._exit_code)

    async def _watch(self, child: Child) -> None:
        deaths = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await child.run_once()
            if self._stopping.is_set():
                self._ended(child, code)
                return
            if not child.has_served:
                # It has said why. Trying again would only hide it.
                self._fail(child, code or 1)
                return
            deaths = 1 if time.monotonic() - began > SETTLED_S else deaths + 1
            wait_s = backoff_s(deaths)
            log.error("process_died", process=child.number, ended=_ending(code), again_in_s=wait_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    def _ended(self, child: Child, code: int) -> None:
        if code not in (0, -signal.SIGTERM):
            log.error("process_did_not_drain", process=child.number, ended=_ending(code))
            self._exit_code = self._exit_code or 1

    def _fail(self, child: Child, code: int) -> None:
        log.error("process_cannot_start", process=child.number, ended=_ending(code))
        self._exit_code = code if code > 0 else 1
        self._stop(asyncio.get_running_loop())

    def _signalled(self, loop: asyncio.AbstractEventLoop) -> None:
        self._signals += 1
        if self._signals > 1:
            # The child's own handler is gone once it drains: this ends it.
            for child in self._children:
                child.stop()
            return
        self._stop(loop)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        grace_s = self._config.drain_grace_seconds
        log.info("processes_draining", grace_s=grace_s)
        for child in self._children:
            child.stop()
        loop.call_later(grace_s + STOP_MARGIN_S, self._kill)

    def _kill(self) -> None:
        for child in self._children:
            if child.process is not None and child.process.returncode is None:
                log.error("process_killed", process=child.number, why="it did not stop in time")
                self._exit_code = self._exit_code or 1
                child.send(signal.SIGKILL)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def run(config: ServerConfig) -> int:
    """Runs the processes; the exit code. Raises BindError."""
    return asyncio.run(Processes(config).run())
