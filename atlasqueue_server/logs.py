"""Structured logs, on standard error: one event a verb, with the keys job, queue, session, fence.

Payloads, results, checkpoints, headers and passwords never get in: `_redact` sees every event,
those of libraries included, and tracebacks are written without local variables.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import Processor

from atlasqueue_server import traces
from atlasqueue_server.model.states import Verb
from atlasqueue_server.redact import without_password

# Bodies belong to the users; their size may be told.
PRIVATE_KEYS: Final = frozenset({"payload", "result", "checkpoint", "headers", "body", "password"})

_GRPC: Final = "grpc._cython.cygrpc"

_log: structlog.stdlib.BoundLogger = structlog.get_logger("atlasqueue")


def configure(
    level: str, log_format: Literal["console", "json"], stream: TextIO | None = None
) -> None:
    """Send the logs of structlog and of the standard library through one pipeline.

    Args:
        level: debug, info, warning or error.
        log_format: for people or for machines (one JSON object a line).
        stream: by default standard error.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(log_format, stream),
            ],
        )
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=number, force=True)
    logging.captureWarnings(True)
    _quieten(number)
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def log_verb(
    verb: Verb,
    *,
    queue: str | None = None,
    job: str | None = None,
    session: int | None = None,
    fence: int | None = None,
    **more: object,
) -> None:
    """Log that a verb moved a job (or `jobs=n` of them); at level debug, for it is per job.

    Keys that are None are left out. Never hand in bodies.
    """
    keys = {"queue": queue, "job": job, "session": session, "fence": fence, **more}
    _log.debug(verb.value, **{key: value for key, value in keys.items() if value is not None})


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _without_color_message,
        _with_trace,
        # A traceback becomes text before it is redacted. Plain: richer ones print local variables.
        structlog.processors.format_exc_info,
        _redact,
    ]


def _renderers(log_format: str, stream: TextIO) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.JSONRenderer(default=str)]
    return [
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _quieten(level: int) -> None:
    # Started, stopped, waiting: the application says these itself, once for both ports.
    for name in ("uvicorn.error", "asyncio", "psycopg", "psycopg.pool", _GRPC):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.getLogger(_GRPC).addFilter(_is_of_the_server)


def _is_of_the_server(record: logging.LogRecord) -> bool:
    # A client that went in the moment of its answer is to grpc an error, with three tracebacks; so are bytes that
    # are no message, of which only health and reflection leave the parsing to it.
    said = record.getMessage()
    return not said.startswith(("ExecuteBatchError raised in core", "Unexpected [DecodeError]"))


def _with_trace(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if "trace" not in event and (trace := traces.current_trace_id()):
        event["trace"] = trace
    return event


def _without_color_message(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    # uvicorn says everything twice, once with colours.
    event.pop("color_message", None)
    return event


def _redact(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if key in PRIVATE_KEYS:
            event[key] = f"<{len(value)} bytes>" if isinstance(value, bytes) else "<redacted>"
        elif isinstance(value, bytes):
            event[key] = f"<{len(value)} bytes>"
        elif isinstance(value, str):
            event[key] = without_password(value)
    return event
