"""A TCP proxy on loopback that loses its voice: frozen, it keeps connections open and carries nothing."""

from __future__ import annotations

import asyncio
import contextlib


class Proxy:
    """Carries bytes to `host:port`. Frozen connections stay so; later ones may be carried again."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._generation = 0
        self._dead_below = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def freeze(self) -> None:
        """Half-open: the connections of now carry nothing any more, in both directions."""
        self._dead_below = self._generation + 1

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._generation += 1
        generation = self._generation
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        self._writers.add(back)
        for source, sink in ((reader, back), (there, writer)):
            pipe = asyncio.create_task(self._carry(source, sink, generation))
            self._pipes.add(pipe)

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, generation: int
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if generation < self._dead_below:
                    continue
                sink.write(data)
                await sink.drain()
        if generation >= self._dead_below:
            sink.close()
