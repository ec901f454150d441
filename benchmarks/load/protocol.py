"""The runners' side of harness/runner.py."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


class Stdio:
    """Says ready, waits for go, prints the result, waits for stop."""

    def __init__(self) -> None:
        # Libraries that print must not talk into the protocol.
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def ready(self) -> None:
        """Blocks until the harness says go."""
        self._print("ready")
        sys.stdin.readline()

    def done(self, result: dict[str, Any]) -> None:
        """Hands the result in and blocks until the harness has read its counters."""
        self._print(json.dumps(result, separators=(",", ":")))
        sys.stdin.readline()

    def _print(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()
