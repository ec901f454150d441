"""Serves bound RPCs over grpc.aio, built from the descriptors rather than from generated servicers.

The generated ones parse requests inside grpc, which answers UNKNOWN to bytes that it cannot parse;
here that is INVALID_ARGUMENT with reason MALFORMED_MESSAGE. grpc never sees an error of a handler.

Nor does it see the message: it would keep it until the answer is sent. 4 MiB of empty items are 300 MiB
as a message, and of many such calls at once each has to be gone before the next one is parsed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Any, Final, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status

from atlasqueue_server.model import limits
from atlasqueue_server.model.errors import MalformedMessage, Overloaded
from atlasqueue_server.rpc import spans
from atlasqueue_server.rpc.binding import Rpc
from atlasqueue_server.rpc.errors import RpcFailure, grpc_code, to_status
from atlasqueue_server.rpc.write_watch import WriteWatch

STATUS_METADATA_KEY: Final = "grpc-status-details-bin"

_TRANSPORT: Final = "grpc"
_log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


async def generic_handlers(
    rpcs: Sequence[Rpc], write_timeout_s: float = limits.WRITE_TIMEOUT_S
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
        return grpc.unary_stream_rpc_method_handler(_stream(rpc, watch), None, _serialize)
    return grpc.unary_unary_rpc_method_handler(_unary(rpc), None, _serialize)


def _parse(rpc: Rpc, data: bytes) -> Message | MalformedMessage:
    try:
        return rpc.request_class.FromString(data)
    except DecodeError as error:
        name = rpc.descriptor.input_type.full_name
        # Not raised: the handler's metrics count it.
        return MalformedMessage(
            f"the bytes are no {name}, or a string in them is not UTF-8 ({error})"
        )


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _unary(rpc: Rpc) -> Callable[[bytes, Context], Awaitable[Message]]:
    async def call(data: bytes, context: Context) -> Message:
        try:
            return await rpc.unary(_parse(rpc, data), _TRANSPORT)
        except RpcFailure as failure:
            status = failure.status
        # Not within the except clause, where the failure's traceback still keeps the message.
        return await _abort(context, status)

    return call


def _stream(rpc: Rpc, watch: WriteWatch) -> Callable[[bytes, Context], Awaitable[None]]:
    async def call(data: bytes, context: Context) -> None:
        try:
            # Closed before the abort: an abort waits behind the writes that the client does not
            # read, and the handler has to give its leases back now.
            async with aclosing(rpc.stream(_parse(rpc, data), _TRANSPORT)) as events:
                async for event in events:
                    await _write(context, event, watch)
            return
        except RpcFailure as failure:
            status = failure.status
        except _SlowClient as slow:
            _log.warning("stream closed", rpc=rpc.name, why=str(slow), peer=context.peer())
            status = to_status(Overloaded(str(slow)))
        await _abort(context, status)

    return call


class _SlowClient(Exception):
    """The client has not read for the write timeout."""


async def _write(context: Context, event: Message, watch: WriteWatch) -> None:
    try:
        await watch.within(context.write(event))
    except TimeoutError as error:
        raise _SlowClient(f"the client did not read for {watch.timeout_s:g} s") from error


async def _abort(context: Context, status: Status) -> NoReturn:
    await context.abort(
        grpc_code(status),
        status.message,
        ((STATUS_METADATA_KEY, status.SerializeToString()),),
    )
