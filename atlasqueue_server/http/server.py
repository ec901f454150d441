"""The HTTP port: uvicorn in the event loop of the gRPC server, without its own signal handlers.

Every connection costs a file descriptor, of which gRPC and PostgreSQL need theirs, so none may stay for nothing: a
request has to arrive whole in time, and the kernel ends what no longer answers or reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from atlasqueue_server.startup import BindError, StartupError, TlsFiles

# A request that has not arrived whole by then is not waited for, nor a client that takes nothing for so long.
REQUEST_TIMEOUT_S: Final = 60.0

_BACKLOG = 1024
_KEEPALIVE_S = 20
_KEEPALIVE_PROBES = 2


class HttpServer:
    """Serves `app`. Call `start`, then `stop`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(
        self, host: str, port: int, *, tls: TlsFiles | None = None, reuse_port: bool = False
    ) -> int:
        """Listen on `host:port` and serve; returns the port, which matters when `port` is 0.

        Raises:
            BindError: the address cannot be listened on.
            StartupError: uvicorn does not start.
        """
        listener = _listen(host, port, reuse_port)
        self._server = _Server(_config(self._app, tls))
        self._task = asyncio.create_task(self._server.serve([listener]), name="http")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            listener.close()
            raise StartupError("the HTTP server did not start") from self._task.exception()
        return int(listener.getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Accept nothing new, wait up to `grace_s` for what runs, then cancel it. Idempotent."""
        if self._server is None or self._task is None:
            return
        # With 0 uvicorn would not even look whether there is anything to wait for.
        self._server.config.timeout_graceful_shutdown = max(1, math.ceil(grace_s))
        self._server.should_exit = True
        await self._task
        self._server = self._task = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the application, which drains both ports in order."""
        yield


class _Protocol(H11Protocol):
    """HTTP/1.1 that closes the connection of a request which does not arrive whole in time."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As of asyncio; so is the rest."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._expect_no_more()

    def on_response_complete(self) -> None:
        names = {name for name, _ in self.headers}
        if {b"content-length", b"transfer-encoding"} <= names:
            # A proxy may see its end elsewhere: what comes behind it need not be a request of its client.
            self.transport.close()
        super().on_response_complete()

    def _expect(self) -> None:
        """The request gets its time from its first byte on, the first one from the connection on."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._expect_no_more()
        elif self._late is None:
            self._late = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.close)

    def _expect_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def _config(app: ASGIApp, tls: TlsFiles | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        backlog=_BACKLOG,
        ssl_certfile=tls.cert if tls else None,
        ssl_keyfile=tls.key if tls else None,
        ssl_ca_certs=str(tls.client_ca) if tls and tls.client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if tls and tls.client_ca else ssl.CERT_NONE,
    )


def _listen(host: str, port: int, reuse_port: bool) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BindError("HTTP", host, port, error.strerror or str(error)) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _end_what_is_gone(listener)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(where)
        # Now, not when uvicorn does: until then a second bind of the port succeeds.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise BindError("HTTP", host, port, error.strerror or str(error)) from error
    return listener


def _end_what_is_gone(listener: socket.socket) -> None:
    """Connections inherit it: a peer without a sign of life, or that reads nothing, is no peer."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in {
        "TCP_KEEPIDLE": _KEEPALIVE_S,
        "TCP_KEEPINTVL": _KEEPALIVE_S,
        "TCP_KEEPCNT": _KEEPALIVE_PROBES,
        "TCP_USER_TIMEOUT": int(REQUEST_TIMEOUT_S * 1000),
    }.items():
        # Not every system has all of them.
        if option := getattr(socket, name, None):
            listener.setsockopt(socket.IPPROTO_TCP, option, value)
