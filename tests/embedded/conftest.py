"""Fixtures of the embedded PostgreSQL's tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from atlasqueue_server.embedded import EmbeddedPostgres

from .helpers import FAST, eventually, open_temporary_directory, processes_of


@pytest.fixture
def new_directory() -> Iterator[Path]:
    """A data directory that does not exist yet; nothing may run on it after the test."""
    with open_temporary_directory() as parent:
        yield parent / "data"
        eventually(lambda: not processes_of(parent), f"no process left on {parent}")


@pytest.fixture(scope="session")
def made_directory() -> Iterator[Path]:
    """A data directory with a cluster, to be copied: quicker than making one for each test."""
    with open_temporary_directory() as parent:
        with EmbeddedPostgres(parent / "data", settings=FAST):
            pass
        yield parent / "data"


@pytest.fixture
def directory(new_directory: Path, made_directory: Path) -> Path:
    """A data directory with a cluster; nothing may run on it after the test."""
    shutil.copytree(made_directory, new_directory)
    return new_directory
