"""Builds the programs of clients/go that tests run. Apart from the fixtures, for runs without pytest."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULE = ROOT / "clients" / "go"
BUILT = ROOT / "build" / "go"


class Missing(Exception):
    """There is no Go here."""


def missing() -> str:
    """Why nothing can be built, or ""."""
    return "" if shutil.which("go") else "Go is not installed"


def build(command: str) -> Path:
    """Builds clients/go/internal/cmd/COMMAND; the program. Raises Missing, CalledProcessError."""
    if why := missing():
        raise Missing(why)
    program = BUILT / command
    subprocess.run(
        ["go", "build", "-o", program, f"./internal/cmd/{command}"],
        cwd=MODULE,
        env=os.environ | {"GOTOOLCHAIN": "auto"},
        check=True,
    )
    return program
