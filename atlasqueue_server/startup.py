"""Why a server cannot start, and the files of its TLS: shared by both ports and the command line.

Exit codes: 2 when the configuration is wrong, 3 when what it names cannot be had (a port is taken,
the database does not answer).
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

EVERYWHERE: Final = ("", "0.0.0.0", "::")


class StartupError(Exception):
    """The process cannot start. The message is for people and says what to do."""

    exit_code: ClassVar[int] = 3


class BindError(StartupError):
    """An address cannot be listened on; most often its port is taken."""

    def __init__(self, what: str, host: str, port: int, cause: str) -> None:
        super().__init__(
            f"cannot listen on {address(host, port)} for {what}: {cause}. Another server may be "
            f"running there: stop it, or choose another port with --{what.lower()}-port"
        )


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. With `client_ca`, clients must show a certificate that it signed."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def check(self) -> None:
        """Raise ValueError, naming the file, unless the files fit together.

        gRPC itself would bind the port and fail each handshake without a word.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"tls_cert {self.cert} and tls_key {self.key} cannot be used together: {error}"
            ) from error
        if self.client_ca is None:
            return
        try:
            context.load_verify_locations(self.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"tls_client_ca {self.client_ca} cannot be used: {error}") from error


def address(host: str, port: int) -> str:
    """`host:port`, with the brackets that IPv6 needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def known_as(host: str, port: int) -> str:
    """The same for whoever looks for this server among others: by the machine's name where it listens on all
    addresses, which every container does."""
    return address(socket.gethostname() if host in EVERYWHERE else host, port)
