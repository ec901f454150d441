"""REST, derived from the google.api.http options of the contract: no route is written by hand.

Calls the bound RPCs, the same ones that gRPC serves, so validation and errors exist once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from atlasqueue_server.http import answers, json_input, query
from atlasqueue_server.http.requests import (
    raw_path,
    read_json_body,
    refuse_foreign_origin,
    wanted_stream,
)
from atlasqueue_server.http.rules import rules_of
from atlasqueue_server.http.streams import SSE, EventStream, last_event
from atlasqueue_server.http.templates import Template, compile_template
from atlasqueue_server.model.errors import AtlasQueueError, InvalidField
from atlasqueue_server.rpc.binding import Rpc
from atlasqueue_server.rpc.errors import RpcFailure, to_status

_TRANSPORT: Final = "http"


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP binding of an RPC. `body` is "", "*" or the name of a field."""

    method: str
    template: Template
    body: str
    rpc: Rpc

    @property
    def descriptor(self) -> Descriptor:
        """The RPC's request."""
        return self.rpc.descriptor.input_type

    @property
    def taken(self) -> frozenset[str]:
        """The top-level fields that query parameters may not set."""
        if self.body == "*":
            return frozenset(self.descriptor.fields_by_name)
        roots = {path.split(".")[0] for path in self.template.fields}
        return frozenset(roots | ({self.body} if self.body else set()))


class Transcoder:
    """An ASGI app that answers every HTTP path of `rpcs`."""

    def __init__(self, rpcs: Sequence[Rpc], write_timeout_s: float) -> None:
        self._write_timeout_s = write_timeout_s
        self._routes = [
            Route(rule.method, compile_template(rule.template), rule.body, rpc)
            for rpc in rpcs
            for rule in rules_of(rpc.descriptor)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        try:
            route, values = self._find(request.method, raw_path(request))
            message = await _read_or_count(request, route, values)
            if route.rpc.descriptor.server_streaming:
                return await self._stream(route.rpc, message, request)
            answer = await route.rpc.unary(message, _TRANSPORT)
            return answers.json_response(await answers.encode(answer))
        except answers.HttpError as error:
            return error.response
        except RpcFailure as failure:
            return answers.status_response(failure.status)
        except ClientDisconnect:
            raise
        except Exception as error:
            rpc = f"{request.method} {request.url.path}"
            return answers.status_response(to_status(error, rpc=rpc))

    async def _stream(self, rpc: Rpc, message: Message, request: Request) -> Response:
        events = rpc.stream(message, _TRANSPORT)
        kind = wanted_stream(request)
        if kind == answers.JSON:
            last = await last_event(events, request.receive)
            return answers.json_response(await answers.encode(last or rpc.response_class()))
        # Awaited before the answer begins, so that an error of the call has its HTTP status.
        first = await anext(events, None)
        return EventStream(first, events, sse=kind == SSE, write_timeout_s=self._write_timeout_s)

    def _find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        allowed = []
        for route in self._routes:
            values = route.template.match(path)
            if values is None:
                continue
            if route.method == method:
                return route, values
            allowed.append(route.method)
        raise answers.wrong_method(method, allowed) if allowed else answers.no_such_path(path)


async def _read_or_count(request: Request, route: Route, values: dict[str, str]) -> Message:
    """As `_read`; a refused request counts as a call of the RPC, as it does over gRPC."""
    try:
        return await _read(request, route, values)
    except answers.HttpError as error:
        route.rpc.refused(_TRANSPORT, error.code)
        raise
    except AtlasQueueError as error:
        route.rpc.refused(_TRANSPORT, to_status(error).code)
        raise


async def _read(request: Request, route: Route, values: dict[str, str]) -> Message:
    """The RPC's request: from the body, then the query string, then the path."""
    if request.method != "GET":
        refuse_foreign_origin(request)
    tree, size = await read_json_body(request, allowed=bool(route.body))
    message = route.rpc.request_class()
    if route.body and (size or route.body == "*"):
        whole = tree if route.body == "*" else {route.body: tree}
        if size > answers.THREAD_BYTES:
            await asyncio.to_thread(json_input.merge, whole, message)
        else:
            json_input.merge(whole, message)
    raw_query = cast(bytes, request.scope.get("query_string", b""))
    if raw_query:
        json_input.merge(query.to_tree(raw_query, route.descriptor, route.taken), message)
    for path, value in values.items():
        _set(message, path, value)
    return message


def _set(message: Message, path: str, value: str) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    before = getattr(message, name)
    json_input.merge({name: value}, message)
    if before and before != getattr(message, name):
        raise InvalidField.of(path, "must be the same in the body and in the path")
