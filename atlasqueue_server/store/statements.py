"""Loads the statements under store/sql by name, once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

_directory: Traversable = files("atlasqueue_server.store") / "sql"


def use_directory(directory: Traversable) -> None:
    """Load statements from `directory` from now on; for tests that plant a broken statement."""
    global _directory
    _directory = directory
    statement.cache_clear()


@cache
def statement(name: str) -> bytes:
    """The text of store/sql/<name>.sql. Comments are left out: they would travel with each parse."""
    text = (_directory / f"{name}.sql").read_text("utf-8")
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).encode()


def names() -> list[str]:
    """The names of all statements."""
    return sorted(f.name[:-4] for f in _directory.iterdir() if f.name.endswith(".sql"))
