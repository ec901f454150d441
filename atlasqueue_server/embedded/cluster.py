"""Makes the database cluster on first use and checks it on later ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from .directory import DataDirectory
from .errors import DataDirectoryError, StartError
from .privileges import Execution
from .spawn import run_once

ROLE = "atlasqueue"
DATABASE = "atlasqueue"
FIRST_WITH_BUILTIN_LOCALES = 17


class Cluster:
    """The cluster of one data directory, handled as the user that owns it.

    Args:
        lock: descriptor of the directory's lock, kept by tools that outlive the caller.
        sync: False to skip flushing to disk, for data that need not survive a power cut.
    """

    def __init__(
        self, directory: DataDirectory, execution: Execution, *, lock: int, sync: bool
    ) -> None:
        self._directory = directory
        self._execution = execution
        self._lock = lock
        self._sync = sync

    def prepare(self, on_progress: Callable[[str], None]) -> None:
        """Make the cluster when there is none; else check version, owner and password.

        Raises:
            DataDirectoryError: the cluster there cannot be used.
            StartError: a PostgreSQL tool failed; the message has its output.
        """
        if not self._directory.cluster.exists():
            on_progress(f"initialising the database cluster in {self._directory.root} ...")
            self._initialise()
            return
        self._check_version()
        self._take_ownership(self._directory.cluster)
        if self._directory.read_password() is None:
            on_progress("the password file is missing: setting a new password ...")
            self._set_password(self._directory.new_password())

    def _initialise(self) -> None:
        new = self._directory.root / "cluster.new"
        password_file = self._directory.root / "password.initdb"
        password = self._directory.read_password() or self._directory.new_password()
        new.mkdir(mode=0o700)
        try:
            password_file.touch(mode=0o600)
            password_file.write_text(password + "\n", encoding="ascii")
            os.chown(password_file, *self._execution.owner)
            os.chown(new, *self._execution.owner)
            self._run(self._initdb_command(new, password_file))
            self._single_user(new, f"CREATE DATABASE {DATABASE}")
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        finally:
            password_file.unlink(missing_ok=True)
        # In one step, so that a cluster is either complete or absent.
        new.rename(self._directory.cluster)

    def _initdb_command(self, target: Path, password_file: Path) -> list[str]:
        binaries = self._execution.binaries
        if binaries.major >= FIRST_WITH_BUILTIN_LOCALES:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        else:
            locale = [
                "--locale=C.UTF-8" if os.path.exists("/usr/lib/locale/C.utf8") else "--locale=C"
            ]
        return [
            binaries.initdb,
            f"--pgdata={target}",
            f"--username={ROLE}",
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            *locale,
            *([] if self._sync else ["--no-sync"]),
        ]

    def _check_version(self) -> None:
        try:
            found = (self._directory.cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise DataDirectoryError(
                f"{self._directory.cluster} exists but is no PostgreSQL cluster; "
                "move it away or use another data directory"
            ) from None
        wanted = str(self._execution.binaries.major)
        if found != wanted:
            raise DataDirectoryError(
                f"the data in {self._directory.root} was made by PostgreSQL {found}, but the "
                f"installed programs are version {wanted}; use another data directory, or move "
                "the data over with pg_dump and pg_restore"
            )

    def _take_ownership(self, tree: Path) -> None:
        """Give the files to the user that PostgreSQL now runs as, which may have changed."""
        uid, gid = self._execution.owner
        if tree.stat().st_uid == uid:
            return
        if os.geteuid() != 0:
            raise DataDirectoryError(
                f"{tree} belongs to the user with id {tree.stat().st_uid}, not to you (id {uid}); "
                "run as that user or use another data directory"
            )
        for parent, directories, files in os.walk(tree):
            for name in (*directories, *files):
                os.chown(os.path.join(parent, name), uid, gid, follow_symlinks=False)
        # Last, so that an interrupted run is repeated.
        os.chown(tree, uid, gid)

    def _set_password(self, password: str) -> None:
        self._single_user(self._directory.cluster, f"ALTER ROLE {ROLE} PASSWORD '{password}'")

    def _single_user(self, cluster: Path, statement: str) -> None:
        command = [self._execution.binaries.postgres, "--single", "-D", str(cluster)]
        self._run([*command, "-c", "exit_on_error=true", "template1"], statement + "\n")

    def _run(self, command: Sequence[str], text_input: str = "") -> None:
        done = run_once(self._execution.run_as, command, text_input=text_input, lock=self._lock)
        if done.returncode != 0:
            said = (done.stderr + done.stdout).strip()[-4000:]
            raise StartError(f"{Path(command[0]).name} failed ({done.returncode}):\n{said}")
