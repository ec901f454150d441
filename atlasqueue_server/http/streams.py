"""Server streams over HTTP: a line of JSON an event, Server-Sent Events, or the last event alone.

By what the client accepts: `text/event-stream` for the second, `application/json` for the third, which
is a long poll: the answer comes when the stream has ended.

An error after the first event cannot change the HTTP status any more; it comes as the last line,
`{"error": {…}}`, or as an event named `error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from google.protobuf.message import Message
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from atlasqueue_server.http.answers import dump, encode, status_tree
from atlasqueue_server.rpc.errors import RpcFailure

SSE: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"


class EventStream(StreamingResponse):
    """Sends `first` and then the events of `rest`, which it closes when the client goes."""

    def __init__(
        self,
        first: Message | None,
        rest: AsyncGenerator[Message, None],
        *,
        sse: bool,
        write_timeout_s: float,
    ) -> None:
        self._rest = rest
        self._write_timeout_s = write_timeout_s
        super().__init__(
            _lines(first, rest, sse),
            media_type=SSE if sse else NDJSON,
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; a client that does not read for the write timeout is dropped."""

        async def bounded(message: AsgiMessage) -> None:
            async with asyncio.timeout(self._write_timeout_s):
                await send(message)

        try:
            await super().__call__(scope, receive, bounded)
        finally:
            await self._rest.aclose()


async def last_event(events: AsyncGenerator[Message, None], receive: Receive) -> Message | None:
    """Wait for the end of the stream; its last event, or None when there was none.

    Raises:
        ClientDisconnect: the client went; the stream is closed.
        RpcFailure: the stream failed.
    """
    reading = asyncio.create_task(_last(events))
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise ClientDisconnect
        return reading.result()
    finally:
        for task in (reading, leaving):
            task.cancel()
        await asyncio.gather(reading, leaving, return_exceptions=True)


async def _last(events: AsyncGenerator[Message, None]) -> Message | None:
    newest = None
    async with aclosing(events):
        async for event in events:
            newest = event
    return newest


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lines(
    first: Message | None, rest: AsyncGenerator[Message, None], sse: bool
) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield _line(await encode(first), sse)
        async for event in rest:
            yield _line(await encode(event), sse)
    except RpcFailure as failure:
        status = status_tree(failure.status)
        yield (
            b"event: error\n" + _line(dump(status), True)
            if sse
            else _line(dump({"error": status}), False)
        )


def _line(body: bytes, sse: bool) -> bytes:
    return b"data: " + body + b"\n\n" if sse else body + b"\n"
