"""Fixtures of the embedded PostgreSQL's tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .helpers import eventually, processes_of


@pytest.fixture
def directory() -> Iterator[Path]:
    """A data directory that does not exist yet; nothing may run on it after the test."""
    # Directly in the temporary directory: pytest's own one is closed to the user `nobody`.
    parent = Path(tempfile.mkdtemp(prefix="atlasqueue-test-"))
    parent.chmod(0o755)
    data = parent / "data"
    yield data
    try:
        eventually(lambda: not processes_of(data), f"no process left on {data}")
    finally:
        shutil.rmtree(parent, ignore_errors=True)
