"""Appends to a history. One line is one write, so that a kill leaves whole lines."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from tests.history.events import Alive, Event

ALIVE_EACH_S = 0.2


class Recorder:
    """Appends what one process sees to `directory`/`who`.jsonl. Safe from several threads."""

    def __init__(self, directory: Path, who: str) -> None:
        self.who = who
        self.path = directory / f"{who}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._descriptor = os.open(self.path, flags, 0o644)

    def record(self, kind: type[Event], **values: Any) -> None:
        """Appends one event; `at` and `who` are filled in unless given."""
        event = kind(**({"at": time.monotonic(), "who": self.who} | values))
        line = json.dumps(event.to_json(), separators=(",", ":"))
        os.write(self._descriptor, line.encode() + b"\n")

    def close(self) -> None:
        """No more events."""
        os.close(self._descriptor)

    def witness(self) -> threading.Event:
        """Records Alive all the time, from a thread of its own, until the returned event is set."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(ALIVE_EACH_S):
                self.record(Alive)

        threading.Thread(target=beat, name="history-witness", daemon=True).start()
        return stop
