"""A TCP link that a scenario can spoil: silent (half-open), reset, slow.

    client ──▶ 127.0.0.1:port (Link) ──▶ target

Runs in the scenario's own event loop. Silent means that both ends keep an open connection on which nothing
arrives any more, and that new connections are taken and lead nowhere: what a pulled cable looks like.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress

CHUNK = 64 * 1024


class Link:
    """One forwarded port."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._server: asyncio.Server | None = None
        self._clear = asyncio.Event()
        self._clear.set()
        self._answers = asyncio.Event()
        self._answers.set()
        self._delay_s = 0.0
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Listens; the address."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"127.0.0.1:{port}"

    def silence(self, *, answers_only: bool = False) -> None:
        """Nothing passes any more (or nothing that comes from the target), and nobody is told."""
        (self._answers if answers_only else self._clear).clear()

    def heal(self) -> None:
        """Everything passes; what was held up meanwhile comes late."""
        self._clear.set()
        self._answers.set()
        self._delay_s = 0.0

    def slow(self, delay_s: float) -> None:
        """Every chunk takes so long."""
        self._delay_s = delay_s

    def reset(self) -> int:
        """RST on every connection, both ways; how many."""
        pairs = list(self._pairs)
        for pair in pairs:
            for writer in pair:
                _reset(writer)
        return len(pairs)

    async def close(self) -> None:
        """No more listening, no more connections."""
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._clear.wait()
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            _reset(writer)
            return
        finally:
            self._tasks.discard(task)
        pair = writer, far_writer
        self._pairs.add(pair)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            answers = source is far_reader
            pump = asyncio.create_task(self._pump(source, sink, pair, answers=answers))
            self._tasks.add(pump)
            pump.add_done_callback(self._tasks.discard)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        answers: bool,
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._clear.wait()
                if answers:
                    await self._answers.wait()
                writer.write(chunk)
                await writer.drain()
        # A pulled cable does not carry the end of a connection either.
        await self._clear.wait()
        self._pairs.discard(pair)
        for end in pair:
            end.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        # Lingering for no time makes close() send RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
