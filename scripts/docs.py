"""`make docs`: builds the documentation site, or serves it while it is written. Warnings are errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main(mode: str, *options: str) -> int:
    """`build` into build/docs, or `serve` on 127.0.0.1:8000; the exit code."""
    # The theme advertises its successor on stderr; that is no warning about these pages.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "true", "DISABLE_MKDOCS_2_WARNING": "true"}
    command = [sys.executable, "-m", "mkdocs", mode, "--strict", *options]
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if code == 0 and mode == "build":
        print("The site is in build/docs: open build/docs/index.html")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
