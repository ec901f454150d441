"""The gRPC port: handlers, health and reflection on one grpc.aio server.

Call `start`, then `drain` (health says NOT_SERVING), then `stop`. Ending the open streams between
drain and stop is the caller's business: a graceful stop only waits for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health as grpc_health
from grpc_reflection.v1alpha import reflection

from atlasqueue_server.metrics import Metrics
from atlasqueue_server.model import limits
from atlasqueue_server.rpc.adapter import generic_handlers
from atlasqueue_server.rpc.binding import Rpc
from atlasqueue_server.rpc.health import Health, Probe, add
from atlasqueue_server.startup import BindError, StartupError, TlsFiles, address


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """How connections are kept. Seconds; `max_connection_age_s` 0 means for ever.

    Connections end at that age (±10 %) so that long streams spread over servers again; a stream
    gets the grace to end by itself.
    """

    max_connection_age_s: float = 1800.0
    max_connection_age_grace_s: float = 60.0
    # A peer that is gone without a word is noticed within 14 s.
    keepalive_time_s: float = 10.0
    keepalive_timeout_s: float = 4.0
    # Clients ping each 10 s; half of it, so that none is cut for being a moment early.
    min_recv_ping_interval_s: float = 5.0
    max_concurrent_streams: int = 1000
    write_timeout_s: float = limits.WRITE_TIMEOUT_S

    def channel_arguments(self, reuse_port: bool) -> list[tuple[str, int]]:
        """As grpc wants them."""
        arguments = [
            # On by default in grpc, where a second server silently shares the port.
            ("grpc.so_reuseport", int(reuse_port)),
            ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),
            ("grpc.max_concurrent_streams", self.max_concurrent_streams),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_time_s)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout_s)),
            # What bounds a ping of the keepalive in fact; its default is a minute.
            ("grpc.http2.ping_timeout_ms", _ms(self.keepalive_timeout_s)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # A server that stood still finds the pings of that time all at once; they are no attack.
            ("grpc.http2.max_ping_strikes", 0),
            (
                "grpc.http2.min_recv_ping_interval_without_data_ms",
                _ms(self.min_recv_ping_interval_s),
            ),
        ]
        if self.max_connection_age_s:
            arguments += [
                ("grpc.max_connection_age_ms", _ms(self.max_connection_age_s)),
                # Without a bound of its own the grace never ends.
                ("grpc.max_connection_age_grace_ms", _ms(self.max_connection_age_grace_s)),
            ]
        return arguments


_DEFAULT_OPTIONS: Final = GrpcOptions()


class GrpcServer:
    """A grpc.aio server for `rpcs`, SERVING while `probe` answers True."""

    def __init__(
        self,
        rpcs: Sequence[Rpc],
        probe: Probe,
        metrics: Metrics,
        *,
        options: GrpcOptions = _DEFAULT_OPTIONS,
    ) -> None:
        self._rpcs = tuple(rpcs)
        self._options = options
        self._services = sorted({rpc.descriptor.containing_service.full_name for rpc in self._rpcs})
        self._health = Health(self._services, probe, metrics)
        self._server: grpc.aio.Server | None = None

    async def start(
        self, host: str, port: int, *, tls: TlsFiles | None = None, reuse_port: bool = False
    ) -> int:
        """Listen on `host:port` and serve; returns the port, which matters when `port` is 0.

        Raises:
            BindError: the address cannot be listened on.
            StartupError: a TLS file cannot be read.
        """
        server = grpc.aio.server(options=self._options.channel_arguments(reuse_port))
        server.add_generic_rpc_handlers(
            await generic_handlers(self._rpcs, self._options.write_timeout_s)
        )
        add(self._health.servicer, server)
        names = [*self._services, grpc_health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server)
        bound = _listen(server, host, port, tls)
        await server.start()
        self._server = server
        await self._health.start()
        return bound

    async def drain(self) -> None:
        """Let the health service say NOT_SERVING, so that clients go elsewhere."""
        await self._health.drain()

    async def stop(self, grace_s: float) -> None:
        """Accept nothing new, wait up to `grace_s` for what runs, then cancel it. Idempotent."""
        await self._health.drain()
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None


def _listen(server: grpc.aio.Server, host: str, port: int, tls: TlsFiles | None) -> int:
    where = address(host, port)
    try:
        if tls is None:
            bound = server.add_insecure_port(where)
        else:
            bound = server.add_secure_port(where, _credentials(tls))
    except RuntimeError as error:
        raise BindError("gRPC", host, port, "the port is taken or the host is not ours") from error
    if bound == 0:
        raise BindError("gRPC", host, port, "the port is taken or the host is not ours")
    return bound


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    try:
        pair = (tls.key.read_bytes(), tls.cert.read_bytes())
        client_ca = tls.client_ca.read_bytes() if tls.client_ca else None
    except OSError as error:
        raise StartupError(f"a TLS file cannot be read: {error}") from error
    return grpc.ssl_server_credentials(
        [pair], root_certificates=client_ca, require_client_auth=client_ca is not None
    )


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
