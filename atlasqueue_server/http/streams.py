"""Server streams over HTTP: a line of JSON an event, or Server-Sent Events.

The latter for clients that send `Accept: text/event-stream`.

An error after the first event cannot change the HTTP status any more; it comes as the last line,
`{"error": {…}}`, or as an event named `error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from google.protobuf.message import Message
from starlette.responses import StreamingResponse
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from atlasqueue_server.http.answers import dump, encode, status_tree
from atlasqueue_server.rpc.adapter import WRITE_TIMEOUT_S
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
        write_timeout_s: float = WRITE_TIMEOUT_S,
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
