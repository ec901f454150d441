"""The data directory: where it is, what lies in it, and who may use it.

cluster/      the PostgreSQL data directory
password      password of the role `atlasqueue`, mode 0600
server.log    log of PostgreSQL; server.log.1 is the one before
state.json    who runs the server now (or ran it last), and on which port
lock          locked while a server runs or is being set up
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from atlasqueue_server.embedded.errors import DataDirectoryError

LOG_BYTES_KEPT = 10 * 1024 * 1024
NAME = "postgres-18"


def default_data_directory() -> Path:
    """Return this user's directory for the data: $XDG_DATA_HOME/atlasqueue/postgres-18 or alike.

    Root whose home is closed to other users gets /var/lib/atlasqueue, which `nobody` can reach.
    """
    xdg = os.environ.get("XDG_DATA_HOME")
    if xdg and Path(xdg).is_absolute():
        return Path(xdg) / "atlasqueue" / NAME
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "atlasqueue" / NAME
    if os.geteuid() == 0 and not _is_open(home):
        return Path("/var/lib/atlasqueue") / NAME
    return home / ".local" / "share" / "atlasqueue" / NAME


def _is_open(directory: Path) -> bool:
    try:
        return bool(directory.stat().st_mode & stat.S_IXOTH)
    except OSError:
        return False


@dataclass(frozen=True)
class State:
    """Who runs the server. The last three fields are None until it is ready."""

    parent: int
    program: str
    port: int | None = None
    postmaster: int | None = None
    socket_directory: str | None = None


class DataDirectory:
    """Paths and small files of one data directory."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root.expanduser()))
        self.cluster = self.root / "cluster"
        self.log = self.root / "server.log"
        self.password_file = self.root / "password"
        self._state = self.root / "state.json"

    def create(self) -> None:
        """Make the directory, closed to other users. Raises DataDirectoryError when it cannot be."""
        if self.root.is_dir():
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o700)
        except OSError as error:
            raise DataDirectoryError(
                f"the data directory {self.root} cannot be made: {error.strerror}; choose another one"
            ) from error

    def try_lock(self) -> int | None:
        """Return a descriptor that holds the lock until its last copy is closed, or None."""
        lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return None
        return lock

    def read_password(self) -> str | None:
        """Return the kept password, or None when there is none yet."""
        try:
            return self.password_file.read_text(encoding="ascii").strip() or None
        except FileNotFoundError:
            return None

    def new_password(self) -> str:
        """Make a password and keep it."""
        password = secrets.token_urlsafe(24)
        self._write(self.password_file, password + "\n")
        return password

    def read_state(self) -> State | None:
        """Return the last written state, or None when there is none (or it cannot be read)."""
        try:
            return State(**json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write_state(self, state: State) -> None:
        """Replace the state in one step."""
        self._write(self._state, json.dumps(asdict(state)))

    def rotate_log(self) -> None:
        """Put the log aside when it has grown large."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_KEPT:
            self.log.replace(self.log.with_name("server.log.1"))

    def log_since(self, position: int) -> str:
        """Return what was logged after a byte position (at most the last 4000 characters)."""
        try:
            with self.log.open("rb") as file:
                file.seek(position)
                return file.read().decode(errors="replace")[-4000:]
        except FileNotFoundError:
            return ""

    def log_size(self) -> int:
        """Return the size of the log in bytes."""
        return self.log.stat().st_size if self.log.exists() else 0

    def _write(self, path: Path, text: str) -> None:
        scratch = path.with_name(path.name + ".new")
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
