"""JSON lines, tables and bytes on standard output, and lines beside them on standard error.

`-o json` prints one object a line, in the JSON of the contract's messages (as REST does: jobId, bytes in
base64, 64-bit numbers as strings), fields with default values included, so that a script may rely on them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Beside the control characters those that turn the direction of text, or end a line.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# What free text is cut to in a table.
TEXT_CHARS = 60
# What is shown of a payload, a result or a checkpoint, in characters.
BYTES_SHOWN = 4096
STYLES = {
    "ready": "cyan",
    "scheduled": "blue",
    "leased": "yellow",
    "succeeded": "green",
    "cancelled": "magenta",
    "dead": "red",
    "paused": "yellow",
}


def as_dict(message: Any) -> dict[str, Any]:
    """A message as its JSON object."""
    from google.protobuf.json_format import MessageToDict

    return dict(MessageToDict(message, always_print_fields_with_no_presence=True))


def print_json(value: Any) -> None:
    """A message or a mapping, as a line."""
    tree = value if isinstance(value, Mapping) else as_dict(value)
    # Where output is no UTF-8, main lets it show numbers for characters, which is no JSON.
    narrow = sys.stdout.encoding.lower() not in ("utf-8", "utf8")
    sys.stdout.write(json.dumps(tree, ensure_ascii=narrow, separators=(",", ":")) + "\n")


def clean(text: str) -> str:
    """Text without what could steer a terminal: jobs are written by others."""
    return CONTROL.sub(lambda found: _shown(found[0]), text)


def _shown(character: str) -> str:
    code = ord(character)
    if character == "\n":
        return "\\n"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def cut(text: str, chars: int = TEXT_CHARS) -> str:
    """Text on one line of a table."""
    text = clean(text)
    return text if len(text) <= chars else text[: chars - 1] + "…"


def text_of(data: bytes) -> str | None:
    """Bytes as text for a terminal, or how many they are; None for none."""
    if not data:
        return None
    try:
        text = clean(data.decode())
    except UnicodeDecodeError:
        return f"({len(data)} bytes that are no text)"
    if len(text) > BYTES_SHOWN:
        return f"{text[:BYTES_SHOWN]}… ({len(data)} bytes)"
    return text


def print_bytes(data: bytes) -> None:
    """Bytes as they are into a pipe; on a terminal only what is text, with a line end."""
    if sys.stdout.isatty():
        print(text_of(data) or "")
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(line: str) -> None:
    """A line for the person, beside the output."""
    print(f"atlasqueue: {line}", file=sys.stderr, flush=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a table; what is wider than the terminal is left to it to wrap."""
    _print(table(header, rows))


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Any:
    """Columns under a header, numbers to the right."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    listed = [[_text(cell) for cell in row] for row in rows]
    for i, title in enumerate(header):
        numeric = bool(listed) and all(isinstance(row[i], int) for row in listed)
        drawn.add_column(title, no_wrap=True, justify="right" if numeric else "left")
    for row in listed:
        drawn.add_row(*(_styled(cell) for cell in row))
    return drawn


def print_card(rows: Iterable[tuple[str, Any]]) -> None:
    """Names and values of one thing; what is None is left out."""
    from rich.table import Table

    card = Table.grid(padding=(0, 2, 0, 0))
    card.add_column(no_wrap=True, style="bold")
    card.add_column(no_wrap=True)
    for name, value in rows:
        if value is not None:
            card.add_row(name, _styled(_text(value)))
    _print(card)


def _text(cell: Any) -> Any:
    return cell if isinstance(cell, int) and not isinstance(cell, bool) else clean(str(cell))


def _styled(cell: Any) -> Any:
    from rich.text import Text

    if isinstance(cell, int):
        return Text(str(cell))
    return Text(cell, style=STYLES.get(cell.split(" ")[0], ""))


def _print(drawn: Any) -> None:
    from rich.console import Console

    # Wider than any text that is shown: rich cuts what does not fit, without a word.
    console = Console(highlight=False, width=100_000, soft_wrap=False)
    with console.capture() as captured:
        console.print(drawn)
    for line in captured.get().splitlines():
        print(line.rstrip())
