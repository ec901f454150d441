"""python -m examples.go_producer: a Go program enqueues, two Python workers work, Python checks the sum."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from atlasqueue_server.testing import running_server
from examples.go_producer.app import words_in
from examples.stage import go_program, quiet, say, worker_process

APP = "examples.go_producer.app:app"
PAGES = Path(__file__).parents[1]


def documents(directory: Path) -> int:
    """The READMEs of the examples and a file that is no text; how many words they have."""
    words = 0
    for page in PAGES.glob("*/README.md"):
        copy = directory / f"{page.parent.name}.md"
        shutil.copy(page, copy)
        words += words_in(copy.read_text("utf-8"))
    (directory / "picture.md").write_bytes(b"\x89PNG\r\n\x1a\n")
    return words


def main() -> int:
    """Starts everything, lets the Go program run, compares."""
    quiet()
    with go_program("go_producer/producer") as producer, tempfile.TemporaryDirectory() as directory:
        words = documents(Path(directory))
        with (
            running_server() as server,
            worker_process(APP, server.address),
            worker_process(APP, server.address),
        ):
            produced = subprocess.run(
                [producer, directory],
                env=os.environ | {"ATLASQUEUE_ADDRESS": server.address},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
    say(produced.strip())
    same = f" {words} words" in produced
    say(f"Python: counted directly, the sum is {'the same' if same else f'another: {words}'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
