"""How far a long command has come, on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from atlasqueue_cli.output import say

PLAIN_EVERY_S = 2.0


class Progress(Protocol):
    """Tells of progress."""

    def show(self, done: int, share: float | None = None) -> None:
        """`done` items so far; `share` of all, 0 to 1, where that is known."""

    def say(self, line: str) -> None:
        """A line beside the progress."""

    def close(self) -> None:
        """No more progress comes."""


class Silent:
    """Says only what is said."""

    def show(self, done: int, share: float | None = None) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """The line."""
        say(line)

    def close(self) -> None:
        """Nothing."""


class Plain(Silent):
    """A line every two seconds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started_at = self._shown_at = time.monotonic()

    def show(self, done: int, share: float | None = None) -> None:
        """A line, unless the last one is young."""
        now = time.monotonic()
        if now - self._shown_at < PLAIN_EVERY_S:
            return
        self._shown_at = now
        rate = done / (now - self._started_at)
        percent = "" if share is None else f" ({share:.0%})"
        self.say(f"{grouped(done)} {self._what}{percent}, {grouped(round(rate))}/s")


class Bar:
    """A bar of rich, with rate and time."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._what = what
        self._started_at = time.monotonic()
        self._bar: Any = RichProgress(
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=None)

    def show(self, done: int, share: float | None = None) -> None:
        """Moves the bar."""
        rate = done / max(time.monotonic() - self._started_at, 0.001)
        text = f"{grouped(done)} {self._what}  {grouped(round(rate))}/s"
        total = None if share is None else 1.0
        self._bar.update(self._task, description=text, completed=share or 0, total=total)

    def say(self, line: str) -> None:
        """The line, above the bar."""
        from rich.text import Text

        self._bar.console.print(Text(f"atlasqueue: {line}"), soft_wrap=True)

    def close(self) -> None:
        """Removes the bar."""
        self._bar.stop()


def progress(what: str, *, quiet: bool = False) -> Progress:
    """What fits the terminal, or its absence."""
    if quiet:
        return Silent()
    return Bar(what) if sys.stderr.isatty() else Plain(what)


def grouped(number: int) -> str:
    """12 345."""
    return f"{number:,}".replace(",", " ")
