"""Serves bound RPCs over grpc.aio, built from the descriptors rather than from generated servicers.

The generated ones parse requests inside grpc, which answers UNKNOWN to bytes that it cannot parse;
here that is INVALID_ARGUMENT with reason MALFORMED_MESSAGE. grpc never sees an error of a handler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Any, Final, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import MalformedMessage, Overloaded
from atlasqueue_server.rpc import spans
from atlasqueue_server.rpc.binding import Rpc
from atlasqueue_server.rpc.errors import RpcFailure, grpc_code, to_status
from atlasqueue_server.rpc.write_watch import WriteWatch

# A client that does not read for so long loses its stream, and with it the leases on their way.
WRITE_TIMEOUT_S: Final = limits.WRITE_TIMEOUT_S
STATUS_METADATA_KEY: Final = "grpc-status-details-bin"

_TRANSPORT: Final = "grpc"
_log = structlog.get_logger(__name__)

Request = Message | MalformedMessage
Context = grpc.aio.ServicerContext[Any, Any]


async def generic_handlers(
    rpcs: Sequence[Rpc], write_timeout_s: float = WRITE_TIMEOUT_S
) -> list[grpc.GenericRpcHandler]:
    """One generic handler a service, for `server.add_generic_rpc_handlers`."""
    watch = WriteWatch(write_timeout_s)
    return [
        grpc.method_handlers_generic_handler(
            service,
            {
                rpc.descriptor.name: await spans.dressed(
                    f"/{service}/{rpc.descriptor.name}", _method_handler(rpc, watch)
                )
                for rpc in members
            },
        )
        for service, members in groupby(
            rpcs, lambda rpc: rpc.descriptor.containing_service.full_name
        )
    ]


def _method_handler(rpc: Rpc, watch: WriteWatch) -> grpc.RpcMethodHandler[Any, Any]:
    if rpc.descriptor.server_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _stream(rpc, watch), _deserializer(rpc), _serialize
        )
    return grpc.unary_unary_rpc_method_handler(_unary(rpc), _deserializer(rpc), _serialize)


def _deserializer(rpc: Rpc) -> Callable[[bytes], Request]:
    parse = rpc.request_class.FromString
    name = rpc.descriptor.input_type.full_name

    def deserialize(data: bytes) -> Request:
        try:
            return parse(data)
        except DecodeError as error:
            # An exception here would be answered UNKNOWN, so the answer is left to the handler.
            return MalformedMessage(
                f"the bytes are no {name}, or a string in them is not UTF-8 ({error})"
            )

    return deserialize


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _unary(rpc: Rpc) -> Callable[[Request, Context], Awaitable[Message]]:
    async def call(request: Request, context: Context) -> Message:
        try:
            return await rpc.unary(request, _TRANSPORT)
        except RpcFailure as failure:
            await _abort(context, failure)

    return call


def _stream(rpc: Rpc, watch: WriteWatch) -> Callable[[Request, Context], Awaitable[None]]:
    async def call(request: Request, context: Context) -> None:
        try:
            # Closed before the abort: an abort waits behind the writes that the client does not
            # read, and the handler has to give its leases back now.
            async with aclosing(rpc.stream(request, _TRANSPORT)) as events:
                async for event in events:
                    await _write(context, event, watch)
        except RpcFailure as failure:
            await _abort(context, failure)
        except _SlowClient as slow:
            _log.warning("stream closed", rpc=rpc.name, why=str(slow), peer=context.peer())
            await _abort(context, RpcFailure(to_status(Overloaded(str(slow)))))

    return call


class _SlowClient(Exception):
    """The client has not read for the write timeout."""


async def _write(context: Context, event: Message, watch: WriteWatch) -> None:
    try:
        await watch.within(context.write(event))
    except TimeoutError as error:
        raise _SlowClient(f"the client did not read for {watch.timeout_s:g} s") from error


async def _abort(context: Context, failure: RpcFailure) -> NoReturn:
    status = failure.status
    await context.abort(
        grpc_code(status),
        status.message,
        ((STATUS_METADATA_KEY, status.SerializeToString()),),
    )
