"""Lays a broken variant over the real statements."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atlasqueue_server.store import statements

HERE = Path(__file__).parent
REAL = Path(statements.__file__).with_name("sql")


def variants() -> list[str]:
    """The names of the broken variants."""
    return sorted(path.name for path in HERE.iterdir() if any(path.glob("*.sql")))


def lay_over(variant: str, directory: Path) -> Path:
    """Fills `directory` with the real statements and, over them, those of the variant.

    Raises ValueError for an unknown variant, or one with a file that the product does not have.
    """
    if variant not in variants():
        raise ValueError(f"no broken variant {variant!r}: there are {', '.join(variants())}")
    shutil.copytree(REAL, directory, dirs_exist_ok=True)
    for file in (HERE / variant).glob("*.sql"):
        if not (REAL / file.name).exists():
            raise ValueError(f"tests/broken/{variant}/{file.name} stands over no real statement")
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
