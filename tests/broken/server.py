"""`python -m tests.broken.server VARIANT serve ...`: atlasqueue-server with broken statements, for tests."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from atlasqueue_server.cli import main
from tests.broken.overlay import broken

if __name__ == "__main__":
    variant = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as directory, broken(variant, Path(directory)):
        main()
