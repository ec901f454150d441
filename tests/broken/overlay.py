"""Lays a broken variant over the real statements."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atlasqueue_server.store import statements
from tests.broken.faults import FAULTS, HERE, REAL


def variants() -> list[str]:
    """The names of the broken variants."""
    return sorted(FAULTS)


def lay_over(variant: str, directory: Path) -> Path:
    """Fills `directory` with the real statements and, over them, those of the variant.

    Raises ValueError for an unknown variant.
    """
    if variant not in FAULTS:
        raise ValueError(f"no broken variant {variant!r}: there are {', '.join(variants())}")
    shutil.copytree(REAL, directory, dirs_exist_ok=True)
    for file in (HERE / variant).glob("*.sql"):
        shutil.copy(file, directory)
    return directory


@contextmanager
def broken(variant: str, directory: Path) -> Iterator[None]:
    """The statements of this process are the broken ones for a while."""
    statements.use_directory(lay_over(variant, directory))
    try:
        yield
    finally:
        statements.use_directory(REAL)
