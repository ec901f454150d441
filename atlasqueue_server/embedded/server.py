"""`EmbeddedPostgres`: a PostgreSQL server that lives no longer than the program that started it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from .binaries import find_binaries
from .cluster import DATABASE, ROLE, Cluster
from .directory import DataDirectory, State
from .errors import DataDirectoryInUseError, EmbeddedPostgresError
from .launch import LaunchPlan, RunningServer, StopMode, launch
from .leftover import remove_remains, running_leftover, stop_leftover
from .privileges import Execution, Way, choose_execution
from .processes import POLL_SECONDS, is_alive
from .settings import merged_settings


def _silent(_message: str) -> None:
    return None


class EmbeddedPostgres:
    """A PostgreSQL server on 127.0.0.1 with its data in a directory of the user's.

    The data is kept between runs. The server stops with `stop()`, at the end of the `with` block,
    and by itself when this process ends in any way, SIGKILL included. All methods block; call
    them from one thread at a time, and through `asyncio.to_thread` in an event loop.

    Args:
        data_directory: made when missing; see `default_data_directory()`.
        port: TCP port; by default the one of the last run if free, else a free one.
        settings: PostgreSQL settings on top of `settings.DEFAULTS`. They win over ALTER SYSTEM.
        binaries: directory with `postgres` and `initdb`; by default the package's.
        reuse: use the server that another live process runs on the same directory, instead of
            raising; `stop()` then leaves it alone.
        temporary: delete the data directory after the `with` block, or when this process dies.
        run_as: force one way to run (mainly for tests); by default the first that works.
        start_timeout: seconds until the server must be ready.
        on_progress: called with a short sentence before each slow step.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
        reuse: bool = False,
        temporary: bool = False,
        run_as: Way | None = None,
        start_timeout: float = 60.0,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self._directory = DataDirectory(data_directory)
        self._wanted_port = port
        self._settings = merged_settings(settings or {})
        self._binaries_directory = binaries
        self._reuse = reuse
        self._temporary = temporary
        self._way = run_as
        self._start_timeout = start_timeout
        self._progress = on_progress or _silent
        self._execution: Execution | None = None
        self._running: RunningServer | None = None
        self._starter = 0
        self._port: int | None = port
        self._pid: int | None = None
        self._reused = False

    @property
    def data_directory(self) -> Path:
        """The directory that holds the cluster, the password and the log."""
        return self._directory.root

    @property
    def log_file(self) -> Path:
        """The log of PostgreSQL."""
        return self._directory.log

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1. Raises EmbeddedPostgresError before the first start."""
        if self._port is None:
            raise EmbeddedPostgresError(
                "the embedded PostgreSQL was not started: call start() first"
            )
        return self._port

    @property
    def pid(self) -> int:
        """Process id of the server. Raises EmbeddedPostgresError when it does not run."""
        if self._pid is None or not self.is_running:
            raise EmbeddedPostgresError(
                "the embedded PostgreSQL is not running: call start() first"
            )
        return self._pid

    @property
    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._pid is not None and is_alive(self._pid)

    @property
    def reused(self) -> bool:
        """Whether the server belongs to another process (see `reuse`)."""
        return self._reused

    @property
    def run_as(self) -> Way | None:
        """The way that was chosen to run PostgreSQL; None before the first start."""
        return self._execution.way if self._execution else None

    @property
    def url(self) -> str:
        """URL of the database `atlasqueue`, password included: do not log it."""
        return self.url_for(DATABASE)

    def url_for(self, database: str) -> str:
        """Return the URL of a database of this server, password included: do not log it."""
        password = self._directory.read_password() or ""
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    @property
    def url_in_shell(self) -> str:
        """`url` as a word for a shell, which reads the password from its file: it may be shown."""
        password = f"$(cat {shlex.quote(str(self._directory.password_file))})"
        return f'"postgresql://{ROLE}:{password}@127.0.0.1:{self.port}/{DATABASE}"'

    @property
    def psql(self) -> Path:
        """Its own psql. Raises BinariesNotFoundError."""
        return find_binaries(self._binaries_directory).directory / "psql"

    def start(self) -> None:
        """Start the server and return when it accepts connections. Does nothing when it runs.

        Raises:
            BinariesNotFoundError, DataDirectoryError, DataDirectoryInUseError, PortTakenError,
            PrivilegesError, StartError: see there; all are EmbeddedPostgresError.
        """
        if self.is_running:
            return
        if os.name != "posix":
            raise EmbeddedPostgresError(
                f"the embedded PostgreSQL does not run on {sys.platform}; "
                "use another PostgreSQL with --database-url"
            )
        # Puts away what is left of a server that has died.
        self.stop("immediate")
        deadline = time.monotonic() + self._start_timeout
        self._directory.create()
        lock = self._take_lock(deadline)
        if lock is None:
            return
        try:
            self._start_locked(lock, deadline)
        finally:
            # Closed, not unlocked: from here on the supervisor's copy holds the lock.
            os.close(lock)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and return when it has ended. Does nothing when it does not run.

        Args:
            mode: "fast" ends sessions and shuts down cleanly; "immediate" behaves like a crash, so
                that the next start recovers from the write-ahead log.

        Raises:
            ValueError: unknown mode.
            EmbeddedPostgresError: it did not end in time.
        """
        if mode not in ("fast", "immediate"):
            raise ValueError(f"unknown stop mode {mode!r}: use 'fast' or 'immediate'")
        running, self._running, self._pid, self._reused = self._running, None, None, False
        # A forked child has a copy of this object, but the server is not its to stop.
        if running is not None and self._starter == os.getpid():
            running.stop(mode)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again on the same port and data. Also starts a server that has died."""
        if self._reused:
            raise EmbeddedPostgresError("this server belongs to another process: restart it there")
        wanted, self._wanted_port = self._wanted_port, self._port
        try:
            self.stop(mode)
            self.start()
        finally:
            self._wanted_port = wanted

    def __enter__(self) -> EmbeddedPostgres:
        try:
            self.start()
        except DataDirectoryInUseError:
            raise
        except BaseException:
            self._delete_temporary()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        reused = self._reused
        self.stop()
        if not reused:
            self._delete_temporary()

    def _delete_temporary(self) -> None:
        if self._temporary and self._starter == os.getpid():
            shutil.rmtree(self._directory.root, ignore_errors=True)

    def _take_lock(self, deadline: float) -> int | None:
        """Return the lock, or None when another process's server is reused."""
        told = False
        while True:
            lock = self._directory.try_lock()
            if lock is not None:
                return lock
            owner = self._directory.read_state()
            if owner is not None and is_alive(owner.parent) and self._handle_owner(owner):
                return None
            if time.monotonic() > deadline:
                raise DataDirectoryInUseError(
                    f"{self._directory.root} is still in use by a PostgreSQL that is starting or "
                    f"stopping; try again, or see {self.log_file}"
                )
            if not told:
                told = True
                self._progress("waiting for the previous PostgreSQL to finish ...")
            time.sleep(POLL_SECONDS)

    def _handle_owner(self, owner: State) -> bool:
        """Reuse the server of a live process if wanted: True when done, False to look again."""
        if not self._reuse:
            who = "this process" if owner.parent == os.getpid() else f"process {owner.parent}"
            raise DataDirectoryInUseError(
                f"{self._directory.root} is in use by {who} ({owner.program}); stop it first, "
                "use its server, or choose another data directory",
                owner.parent,
            )
        if owner.port is None or owner.postmaster is None or not is_alive(owner.postmaster):
            return False
        self._port, self._pid, self._reused = owner.port, owner.postmaster, True
        self._progress(f"using the PostgreSQL of process {owner.parent} ({owner.program})")
        return True

    def _start_locked(self, lock: int, deadline: float) -> None:
        self._starter = os.getpid()
        previous = self._directory.read_state()
        leftover = running_leftover(self._directory.cluster)
        if leftover is not None:
            self._progress(f"stopping a PostgreSQL left by an earlier run (process {leftover}) ...")
            stop_leftover(self._directory, leftover)
        remove_remains(self._directory)
        program = Path(sys.argv[0]).name or "python"
        state = State(os.getpid(), program, previous.port if previous else None)
        self._directory.write_state(state)
        execution = self._choose_execution()
        sync = self._settings.get("fsync", "on").lower() not in ("off", "false", "no", "0")
        Cluster(self._directory, execution, lock=lock, sync=sync).prepare(self._progress)
        self._directory.rotate_log()
        self._progress("starting PostgreSQL ...")
        plan = LaunchPlan(
            directory=self._directory,
            execution=execution,
            settings=self._settings,
            wanted_port=self._wanted_port,
            last_port=previous.port if previous else None,
            lock=lock,
            temporary=self._temporary,
            deadline=deadline,
        )
        running = launch(plan)
        self._running, self._port, self._pid = running, running.port, running.pid
        self._directory.write_state(
            replace(
                state,
                port=running.port,
                postmaster=running.pid,
                socket_directory=str(running.socket_directory),
            )
        )

    def _choose_execution(self) -> Execution:
        if self._execution is None:
            binaries = find_binaries(self._binaries_directory)
            self._execution = choose_execution(binaries, self._directory.root, self._way)
        return self._execution
