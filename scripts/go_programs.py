"""Builds the Go programs of tests and benchmarks, those of clients/go/internal/cmd, into .tools/go.

    python scripts/go_programs.py conformance       build one and print where it is

Go's own build cache makes a repeat cheap; the first build on a machine fetches modules and takes minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "clients" / "go"
OUT = ROOT / ".tools" / "go"
BUILD_S = 600


class NoGo(Exception):
    """Go programs cannot be built here; the message says why."""


def environment() -> dict[str, str]:
    """For the go command: a toolchain as new as go.mod asks for is fetched if need be."""
    return os.environ | {"GOTOOLCHAIN": "auto", "GOFLAGS": "-buildvcs=false"}


def build(name: str) -> Path:
    """The program, built if it is not up to date. Raises NoGo."""
    if shutil.which("go") is None:
        raise NoGo("Go is not installed")
    program = OUT / f"{name}-{os.getpid()}"
    done = subprocess.run(
        ["go", "build", "-p", "2", "-o", str(program), f"./internal/cmd/{name}"],
        cwd=MODULE,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    if done.returncode != 0:
        raise NoGo(f"go build failed: {done.stderr.strip()[-500:]}")
    # Renamed into place, because another process may be running or building the same program.
    return program.rename(OUT / name)


def main() -> int:
    """Builds one."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    try:
        print(build(sys.argv[1]))
    except NoGo as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
