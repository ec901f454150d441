"""Logs: one pipeline for everything, and no bodies or passwords in it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from atlasqueue_server import logs
from atlasqueue_server.model.states import Verb


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Where the logs go."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def last(lines: io.StringIO) -> dict[str, Any]:
    """The newest line."""
    tree: dict[str, Any] = json.loads(lines.getvalue().splitlines()[-1])
    return tree


def test_an_event_has_time_level_and_keys(lines: io.StringIO) -> None:
    logs.configure("debug", "json", lines)
    logs.log_verb(Verb.COMPLETE, queue="media", job="an id", fence=7)
    event = last(lines)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "complete",
        "level": "debug",
        "logger": "atlasqueue",
        "queue": "media",
        "job": "an id",
        "fence": 7,
    }


def test_libraries_log_the_same_way(lines: io.StringIO) -> None:
    logs.configure("info", "json", lines)
    logging.getLogger("psycopg.pool").warning("error connecting in %r", "pool-1")
    event = last(lines)
    assert (event["event"], event["level"]) == ("error connecting in 'pool-1'", "warning")
    assert event["logger"] == "psycopg.pool"


def test_a_client_that_went_is_no_error_of_grpc(lines: io.StringIO) -> None:
    """How it showed: three tracebacks at level error for a call that its client had given up."""
    logs.configure("debug", "json", lines)
    log = logging.getLogger("grpc._cython.cygrpc")
    log.error("ExecuteBatchError raised in core by servicer method [%s]", "/a/B")
    log.error("Unexpected [%s] raised by servicer method [%s]", "DecodeError", "/a/B")
    log.debug("[_cygrpc] Loaded running loop: id(loop)=%s", 1)
    assert lines.getvalue() == ""
    log.error("Unexpected exception")
    assert last(lines)["event"] == "Unexpected exception"


def test_below_the_level_nothing_is_logged(lines: io.StringIO) -> None:
    logs.configure("warning", "json", lines)
    structlog.get_logger().info("hello")
    logging.getLogger("any").info("hello")
    logs.log_verb(Verb.LEASE, queue="media")
    assert lines.getvalue() == ""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_bodies_and_passwords_stay_out(lines: io.StringIO, log_format: Any) -> None:
    logs.configure("debug", log_format, lines)
    log = structlog.get_logger()
    url = "postgresql://queue:s3cret@db/queue"
    log.info("lost", payload=b"s3cret", headers={"a": "s3cret"}, other=b"s3cret", url=url)
    logging.getLogger("psycopg").warning("cannot connect to %s", url)

    def fail(payload: str) -> None:
        raise ConnectionError(f"cannot connect to {url}")

    try:
        fail("s3cret of a local variable")
    except ConnectionError:
        log.exception("failed")
        logging.getLogger("any").exception("failed")
    text = lines.getvalue()
    assert "ConnectionError" in text
    assert "<6 bytes>" in text
    assert "s3cret" not in text.replace('fail("s3cret of a local variable")', "").replace(
        'fail(\\"s3cret of a local variable\\")', ""
    )
