"""Answers in JSON: messages, and errors as google.rpc.Status with the HTTP status of the table."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from starlette.responses import Response

from atlasqueue_server.model import limits
from atlasqueue_server.rpc.errors import ANSWERS, http_status, refusal, retry_after_s

# Pure Python turns a message of this size into JSON in about 5 ms; beyond, a thread does it so that
# heartbeats do not wait for it.
THREAD_BYTES: Final = 64 * limits.KIB

JSON: Final = "application/json"


class HttpError(Exception):
    """A refusal that only HTTP knows. Carries the response, and its gRPC code."""

    def __init__(self, reason: str, message: str, **headers: str) -> None:
        super().__init__(message)
        status = refusal(reason, message)
        self.code = status.code
        self.response = status_response(status, ANSWERS[reason].http, headers)


def no_such_path(path: str) -> HttpError:
    """404."""
    return HttpError("PATH_NOT_FOUND", f"no such path: {path[:200]}; /docs shows all of them")


def wrong_method(method: str, allowed: Iterable[str]) -> HttpError:
    """405."""
    names = ", ".join(sorted(allowed))
    return HttpError(
        "METHOD_NOT_ALLOWED", f"{method[:20]} is not for this path: use {names}", allow=names
    )


def too_large() -> HttpError:
    """413. The connection is closed, for the rest of the body is not read."""
    mib = limits.MESSAGE_BYTES_MAX // limits.MIB
    return HttpError(
        "BODY_TOO_LARGE", f"the body is over {mib} MiB: send less at once", connection="close"
    )


def wrong_media_type(why: str) -> HttpError:
    """415."""
    return HttpError("UNSUPPORTED_MEDIA_TYPE", why)


def foreign_origin(origin: str) -> HttpError:
    """403."""
    return HttpError("FOREIGN_ORIGIN", f"pages of {origin[:200]} may not change anything here")


def to_tree(message: Message) -> dict[str, Any]:
    """The message as a JSON object: lowerCamelCase, zeros and empty lists included."""
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def dump(tree: Any) -> bytes:
    """JSON on one line, in UTF-8."""
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()


async def encode(message: Message) -> bytes:
    """The message as JSON on one line."""
    if message.ByteSize() > THREAD_BYTES:
        return await asyncio.to_thread(lambda: dump(to_tree(message)))
    return dump(to_tree(message))


def json_response(body: bytes, http: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response of JSON."""
    return Response(body + b"\n", http, headers, media_type=JSON)


def status_response(
    status: Status, http: int | None = None, headers: dict[str, str] | None = None
) -> Response:
    """An error. `http`: instead of the status of the table."""
    headers = dict(headers or {})
    delay = retry_after_s(status)
    if delay is not None:
        headers["retry-after"] = str(math.ceil(delay))
    return json_response(dump(status_tree(status)), http or http_status(status), headers)


def status_tree(status: Status) -> dict[str, Any]:
    """An error as a JSON object: code, message, details."""
    return {"code": status.code, "message": status.message} | MessageToDict(status)
