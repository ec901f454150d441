"""What worker and subprocess say to each other, over a socket pair: kind, length, body. No pickle.

worker                                subprocess
  START {"path": [...]}          ──▶    imports MODULE:APP from its own command line
                                 ◀──  HELLO
  JOB LeasedJob                  ──▶    runs the handler
                                 ◀──  PROGRESS [percent, note]  CHECKPOINT bytes     any number
  LEASE_STATE text               ──▶
  CANCEL, DRAIN                  ──▶    asks the handler to stop
                                 ◀──  OUTCOME JobOutcome

LeasedJob and JobOutcome are the contract's messages.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from enum import IntEnum

HEADER = struct.Struct("!BI")
# A job is at most 1 MiB of payload and some headers.
FRAME_BYTES_MAX = 8 * 1024 * 1024


class Frame(IntEnum):
    """What a frame says."""

    START = 1
    HELLO = 2
    JOB = 3
    PROGRESS = 4
    CHECKPOINT = 5
    LEASE_STATE = 6
    CANCEL = 7
    DRAIN = 8
    OUTCOME = 9


def encode_frame(kind: Frame, body: bytes = b"") -> bytes:
    """A frame on the wire."""
    return HEADER.pack(kind, len(body)) + body


async def read_frame(reader: asyncio.StreamReader) -> tuple[Frame, bytes]:
    """The next frame. Raises EOFError at the end of the stream, ValueError for what is no frame."""
    kind, size = _header(await reader.readexactly(HEADER.size))
    return kind, await reader.readexactly(size)


def receive_frame(connection: socket.socket) -> tuple[Frame, bytes]:
    """The next frame, waiting for it. Raises as read_frame."""
    kind, size = _header(_receive(connection, HEADER.size))
    return kind, _receive(connection, size)


def _header(header: bytes) -> tuple[Frame, int]:
    kind, size = HEADER.unpack(header)
    if size > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {size} bytes is over {FRAME_BYTES_MAX}")
    return Frame(kind), size


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError("the other side is gone")
        data += part
    return bytes(data)
