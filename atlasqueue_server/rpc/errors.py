"""The one table of errors: reason → gRPC status and HTTP status, with google.rpc details.

`to_status` turns any exception into the google.rpc.Status that gRPC, REST and the items of a batch
answer with. What the domain did not raise on purpose is INTERNAL: the log holds it, the answer only
an id to find it by.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from atlasqueue_server.model.errors import AtlasQueueError, InvalidField, Violation

DOMAIN: Final = "atlasqueue"

# A status travels in HTTP/2 trailers, which clients refuse beyond 8 KiB: the message twice (once
# with three bytes for each byte beyond ASCII) and the details in base64.
_MESSAGE_BYTES_MAX: Final = 512
_SHORT_MESSAGE_BYTES_MAX: Final = 48
_FIELD_BYTES_MAX: Final = 160
_BOUND_BYTES_MAX: Final = 256
_VIOLATIONS_MAX: Final = 6

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a reason is answered.

    `retry_after_s`: when a repeat makes sense, or None for never. `http`: the HTTP status where it is
    not that of the code.
    """

    code: grpc.StatusCode
    retry_after_s: float | None = None
    http: int | None = None


ANSWERS: Final[dict[str, Answer]] = {
    "INVALID_FIELD": Answer(grpc.StatusCode.INVALID_ARGUMENT),
    "MALFORMED_MESSAGE": Answer(grpc.StatusCode.INVALID_ARGUMENT),
    "JOB_NOT_FOUND": Answer(grpc.StatusCode.NOT_FOUND),
    "QUEUE_NOT_FOUND": Answer(grpc.StatusCode.NOT_FOUND),
    "JOB_ID_CONFLICT": Answer(grpc.StatusCode.ALREADY_EXISTS),
    "JOB_ID_AMBIGUOUS": Answer(grpc.StatusCode.FAILED_PRECONDITION),
    "JOB_FINAL": Answer(grpc.StatusCode.FAILED_PRECONDITION),
    "JOB_DEAD": Answer(grpc.StatusCode.FAILED_PRECONDITION),
    "TOO_MANY_QUEUES": Answer(grpc.StatusCode.RESOURCE_EXHAUSTED),
    "SESSION_LOST": Answer(grpc.StatusCode.FAILED_PRECONDITION),
    "SESSION_SUPERSEDED": Answer(grpc.StatusCode.FAILED_PRECONDITION),
    "DATABASE_UNAVAILABLE": Answer(grpc.StatusCode.UNAVAILABLE, 1.0),
    "SHUTTING_DOWN": Answer(grpc.StatusCode.UNAVAILABLE, 0.0),
    "OVERLOADED": Answer(grpc.StatusCode.UNAVAILABLE, 1.0),
    "INTERNAL": Answer(grpc.StatusCode.INTERNAL),
    # Of HTTP alone.
    "PATH_NOT_FOUND": Answer(grpc.StatusCode.NOT_FOUND),
    "METHOD_NOT_ALLOWED": Answer(grpc.StatusCode.UNIMPLEMENTED, http=405),
    "BODY_TOO_LARGE": Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, http=413),
    "UNSUPPORTED_MEDIA_TYPE": Answer(grpc.StatusCode.INVALID_ARGUMENT, http=415),
    "FOREIGN_ORIGIN": Answer(grpc.StatusCode.PERMISSION_DENIED),
}

# As google/rpc/code.proto maps them.
_HTTP_STATUS: Final[dict[int, int]] = {
    grpc.StatusCode.INVALID_ARGUMENT.value[0]: 400,
    grpc.StatusCode.FAILED_PRECONDITION.value[0]: 400,
    grpc.StatusCode.PERMISSION_DENIED.value[0]: 403,
    grpc.StatusCode.NOT_FOUND.value[0]: 404,
    grpc.StatusCode.ALREADY_EXISTS.value[0]: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]: 429,
    grpc.StatusCode.INTERNAL.value[0]: 500,
    grpc.StatusCode.UNAVAILABLE.value[0]: 503,
}

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class RpcFailure(Exception):
    """An RPC that is answered with `status`; raised by `Rpc`, mapped by each transport."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


def to_status(
    error: BaseException, *, rpc: str = "", metadata: Mapping[str, str] | None = None
) -> Status:
    """The status that answers `error`.

    Args:
        error: an AtlasQueueError; anything else is logged, with `rpc`, and answered INTERNAL.
        metadata: goes into ErrorInfo.metadata.
    """
    if not isinstance(error, AtlasQueueError) or error.reason not in ANSWERS:
        return _internal(error, rpc)
    answer = ANSWERS[error.reason]
    status = refusal(error.reason, str(error) or error.reason, metadata)
    if isinstance(error, InvalidField):
        status.details.add().Pack(_bad_request(error.violations))
    if answer.retry_after_s is not None:
        status.details.add().Pack(RetryInfo(retry_delay=_duration(answer.retry_after_s)))
    return status


def shortened(status: Status) -> Status:
    """The same with its first detail (the reason) only and the beginning of its message."""
    short = Status(code=status.code, message=_cut(status.message, _SHORT_MESSAGE_BYTES_MAX))
    short.details.extend(status.details[:1])
    return short


def grpc_code(status: Status) -> grpc.StatusCode:
    """The gRPC code of `status`."""
    return _CODES[status.code]


def refusal(reason: str, message: str, metadata: Mapping[str, str] | None = None) -> Status:
    """The status for one of ANSWERS, with its reason as the first detail."""
    code = ANSWERS[reason].code.value[0]
    status = Status(code=code, message=_cut(message, _MESSAGE_BYTES_MAX))
    status.details.add().Pack(ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata or {}))
    return status


def http_status(status: Status) -> int:
    """The HTTP status of `status`."""
    return http_of_code(status.code)


def http_of_code(code: int) -> int:
    """The HTTP status of a gRPC code."""
    return _HTTP_STATUS.get(code, 500)


def retry_after_s(status: Status) -> float | None:
    """The delay in the RetryInfo of `status`, in seconds."""
    info = RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


def _internal(error: BaseException, rpc: str) -> Status:
    incident = uuid.uuid4().hex[:12]
    _log.error("internal error", rpc=rpc, incident=incident, exc_info=error)
    return refusal(
        "INTERNAL",
        f"internal error; the server's log has the details under id {incident}",
        {"incident": incident},
    )


def _bad_request(violations: Sequence[Violation]) -> BadRequest:
    shown = violations[:_VIOLATIONS_MAX]
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(
                field=_cut(violation.field, _FIELD_BYTES_MAX),
                description=_cut(violation.bound, _BOUND_BYTES_MAX),
                reason="INVALID_FIELD",
            )
            for violation in shown
        ]
    )


def _cut(text: str, bytes_max: int) -> str:
    raw = text.encode("utf-8", "replace")
    if len(raw) <= bytes_max:
        return raw.decode("utf-8")
    return raw[: bytes_max - 3].decode("utf-8", "ignore") + "…"


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
