"""Speaks to the reader: lines that scroll, a board below them that changes, and the Enter key.

In a terminal the board is drawn anew four times a second and the key is read without echo, so that the two
do not disturb each other. Elsewhere (a test, a pipe) there are only the lines, and nobody is waited for.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

if os.name == "posix":
    import termios
    import tty


class Voice:
    """The reader's side. `auto`: press every key for them."""

    def __init__(self, *, auto: bool, console: Console | None = None) -> None:
        width = None if sys.stdout.isatty() else 120
        self.console = console or Console(highlight=False, width=width)
        self.alive = self.console.is_terminal and sys.stdin.isatty() and os.name == "posix"
        self.auto = auto or not self.alive
        self.board: RenderableType = ""
        self._prompt = ""
        self._began = time.monotonic()
        self._showing = False

    def say(self, text: str, style: str = "") -> None:
        """A paragraph of the story."""
        self.console.print(Text(text, style=style))

    def heading(self, text: str) -> None:
        """A new part."""
        self.console.print()
        self.console.rule(Text(text, style="bold"))

    def begin(self) -> None:
        """Times of events count from here."""
        self._began = time.monotonic()

    def event(self, text: str, style: str = "dim") -> None:
        """Something happened in the system."""
        self.console.print(Text(f"{time.monotonic() - self._began:7.2f} s  {text}", style=style))

    async def key(self, prompt: str) -> None:
        """Waits until the reader presses Enter; says at once what would be done with --auto."""
        if self.auto:
            self.say(f"▶ {prompt}", "bold cyan")
            return
        # What was pressed before the question is no answer to it.
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
        self._prompt = prompt
        if not self._showing:
            self.say(f"⏎ Enter: {prompt}", "bold cyan")
        pressed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def read() -> None:
            if os.read(sys.stdin.fileno(), 64):
                pressed.set()

        loop.add_reader(sys.stdin.fileno(), read)
        try:
            await pressed.wait()
        finally:
            loop.remove_reader(sys.stdin.fileno())
            self._prompt = ""
        self.say(f"▶ {prompt}", "bold cyan")

    @contextmanager
    def showing(self) -> Iterator[None]:
        """The board is on the screen for a while."""
        if not self.alive:
            yield
            return
        with Live(
            get_renderable=self._screen,
            console=self.console,
            refresh_per_second=4,
            transient=True,
        ):
            self._showing = True
            try:
                yield
            finally:
                self._showing = False

    def _screen(self) -> RenderableType:
        parts = [Panel(self.board, title="now", title_align="left", border_style="dim")]
        if self._prompt:
            return Group(*parts, Text(f"⏎ Enter: {self._prompt}", style="bold cyan"))
        return Group(*parts)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keys are not echoed for a while; Ctrl-C still ends the lab."""
        if self.auto:
            yield
            return
        before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        try:
            yield
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
