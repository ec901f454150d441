"""Addresses of servers, and channels to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

DEFAULT_ADDRESS = "127.0.0.1:7420"
ADDRESS_VARIABLE = "ATLASQUEUE_ADDRESS"
OPTIONS: list[tuple[str, int]] = [
    # A peer that is gone without a word is noticed within 14 s, on an idle stream too.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    # What bounds a ping of the keepalive in fact; its default is a minute.
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Despite its name also the time that a connection may take to be made.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    # Channels of one process to one address would share a connection, and with it its death.
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the CA that signed the server's certificate (default: the system's), and, where the
    server asks for it, the client's own certificate and key."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """As grpc wants them. Raises OSError when a file cannot be read, ValueError when it is no PEM."""
        return grpc.ssl_channel_credentials(_pem(self.ca), _pem(self.key), _pem(self.cert))


def _pem(file: Path | None) -> bytes | None:
    if file is None:
        return None
    held = file.read_bytes()
    if b"-----BEGIN " not in held:
        # gRPC would only say that it cannot connect.
        raise ValueError(f"{file} holds no PEM")
    return held


def parse_addresses(addresses: str | Sequence[str] | None = None) -> list[str]:
    """host:port of each server: as given, else from ATLASQUEUE_ADDRESS, else 127.0.0.1:7420.

    Raises ValueError when one is no host:port.
    """
    if addresses is None:
        addresses = os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
    listed = addresses.split(",") if isinstance(addresses, str) else list(addresses)
    cleaned = [address.strip() for address in listed if address.strip()]
    if not cleaned:
        raise ValueError("no server address: give host:port, or several with commas between them")
    for address in cleaned:
        host, _, port = address.rpartition(":")
        # A colon within the host is a URL's, or that of an IPv6 address, which needs its brackets.
        unclear = ":" in host and not (host.startswith("[") and host.endswith("]"))
        if unclear or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"{address!r} is no server address: it must be host:port")
    return cleaned


def open_channel(address: str, tls: Tls | None = None) -> grpc.Channel:
    """A blocking channel; connects when it is used."""
    if tls is None:
        return grpc.insecure_channel(address, options=OPTIONS)
    return grpc.secure_channel(address, tls.credentials(), options=OPTIONS)


def open_aio_channel(address: str, tls: Tls | None = None) -> grpc.aio.Channel:
    """An asyncio channel; connects when it is used."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    return grpc.aio.secure_channel(address, tls.credentials(), options=OPTIONS)
