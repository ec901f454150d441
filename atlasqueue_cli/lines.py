"""Lines of a file or pipe, one after the other, none of them held longer than needed."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from atlasqueue_cli.errors import UsageError

# A job of the largest size, its payload in base64 or escaped, has room in this.
LINE_BYTES_MAX = 4 * 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BadLine(ValueError):
    """A line that is no job; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end. `text` is None for one that is too long to be read."""

    number: int
    text: bytes | None
    size: int


def open_input(source: str) -> BinaryIO:
    """`-` for standard input, `@path` for a file. Raises UsageError when it cannot be read."""
    if source == "-":
        if sys.stdin is None:
            raise UsageError("standard input is closed")
        try:
            # Not sys.stdin.buffer: a thread that waits in it would hold up the end of the process.
            return open(sys.stdin.fileno(), "rb", closefd=False)
        except (OSError, io.UnsupportedOperation):
            return sys.stdin.buffer
    try:
        return Path(source[1:]).open("rb")
    except OSError as error:
        raise UsageError(f"{source[1:] or '@'} cannot be read: {error.strerror}") from error


def read_payload(argument: str) -> bytes:
    """A payload: the text itself, `@path`, `-`, or `@@…` for a text that begins with @."""
    if argument.startswith("@@"):
        return argument[1:].encode(errors="surrogateescape")
    if argument == "-" or argument.startswith("@"):
        with open_input(argument) as source:
            try:
                payload = source.read(LINE_BYTES_MAX + 1)
            except OSError as error:
                raise UsageError(f"{argument[1:]} cannot be read: {error.strerror}") from error
        if len(payload) > LINE_BYTES_MAX:
            # No more is read of it: it may be larger than the memory, or never end.
            name = "standard input" if argument == "-" else argument[1:]
            raise UsageError(
                f"{name} is over 4 MiB; a payload has at most 1 MiB",
                "store it elsewhere and enqueue its name; for JSON lines the first argument is - or @FILE",
            )
        return payload
    return argument.encode(errors="surrogateescape")


def lines_of(source: BinaryIO, longest: int = LINE_BYTES_MAX) -> Iterator[Line]:
    """The lines, numbered from 1, ends (LF or CRLF) removed; empty ones are passed over but counted."""
    number = 0
    while True:
        text = source.readline(longest + 2)
        if not text:
            return
        number += 1
        if number == 1:
            text = text.removeprefix(BYTE_ORDER_MARK)
        size = len(text)
        if not text.endswith(b"\n") and size > longest:
            size += _skip_to_end(source)
            yield Line(number, None, size)
            continue
        text = text.removesuffix(b"\n").removesuffix(b"\r")
        if text.strip():
            yield Line(number, text, size)


def _skip_to_end(source: BinaryIO) -> int:
    skipped = 0
    while piece := source.readline(65536):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped
