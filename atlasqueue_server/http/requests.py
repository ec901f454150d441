"""What is read from an HTTP request, within bounds, before any RPC sees it."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from atlasqueue_server.http import answers, json_input
from atlasqueue_server.http.answers import JSON
from atlasqueue_server.http.streams import NDJSON, SSE
from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import InvalidField


def raw_path(request: Request) -> str:
    """The path as it was sent, so that an encoded slash stays part of its segment."""
    raw: bytes | None = request.scope.get("raw_path")
    return raw.decode("latin-1") if raw else str(request.scope["path"])


def wanted_stream(request: Request) -> str:
    """How the client wants the events of a stream: SSE, NDJSON, or JSON for the last of them alone."""
    accepted = request.headers.get("accept", "")
    return next((kind for kind in (SSE, NDJSON, JSON) if kind in accepted), NDJSON)


def refuse_foreign_origin(request: Request) -> None:
    """Raise HttpError (403) when a browser sends this for a page of another site.

    The server has no login of its own yet: without this any page that a developer opens could
    enqueue jobs at 127.0.0.1.
    """
    origin = request.headers.get("origin")
    if origin and _netloc(origin) != request.headers.get("host"):
        raise answers.foreign_origin(origin)


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


async def read_json_body(request: Request, *, allowed: bool) -> tuple[Any, int]:
    """The JSON in the body, and the body's size in bytes.

    Raises:
        HttpError: too large, or of another media type.
        InvalidField: there is one and `allowed` is False.
        MalformedMessage: no JSON.
    """
    body = await _read_body(request)
    if not body:
        return {}, 0
    if not allowed:
        raise InvalidField.of("(body)", "must be empty here")
    _check_media_type(request)
    if len(body) > answers.THREAD_BYTES:
        return await asyncio.to_thread(json_input.load, body), len(body)
    return json_input.load(body), len(body)


async def _read_body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced) > limits.MESSAGE_BYTES_MAX:
        raise answers.too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.MESSAGE_BYTES_MAX:
            raise answers.too_large()
    return bytes(body)


def _check_media_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise answers.wrong_media_type(
            f'the body must be JSON: send the header "Content-Type: {JSON}"'
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise answers.wrong_media_type("the body must not be compressed")
