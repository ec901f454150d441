"""Nothing keeps running when the program dies, and what was left behind is handled."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from atlasqueue_server.embedded import DataDirectoryInUseError, EmbeddedPostgres, find_binaries
from atlasqueue_server.embedded.leftover import read_pid_file
from atlasqueue_server.embedded.privileges import Way, choose_execution
from atlasqueue_server.embedded.processes import command_line, is_alive
from atlasqueue_server.embedded.spawn import run_once
from atlasqueue_server.embedded.supervisor import __file__ as supervisor_script

from .helpers import FAST, eventually, execute, processes_of, program

WAYS: list[Way | None] = ["nobody", "namespace", "copy"] if os.geteuid() == 0 else [None]


@pytest.mark.parametrize("way", WAYS)
def test_killed_program_leaves_nothing_running(directory: Path, way: Way | None) -> None:
    with program(directory, run_as=way) as (process, told):
        assert told["way"] == way or way is None
        assert execute(told["url"], "SELECT 1") == [(1,)]
        process.kill()
        process.wait()
        eventually(lambda: not is_alive(told["pid"]), "PostgreSQL stops after its program")
        eventually(lambda: not processes_of(directory), "the supervisor ends too")
    # A clean stop, not a crash: the next start has nothing to recover.
    with EmbeddedPostgres(directory, settings=FAST, run_as=way) as server:
        assert execute(server.url, "SELECT 1") == [(1,)]
        assert "automatic recovery in progress" not in server.log_file.read_text()


def test_fork_that_holds_the_pipe_does_not_keep_it_running(directory: Path) -> None:
    with program(directory, fork=True) as (process, told):
        try:
            process.kill()
            process.wait()
            eventually(lambda: not is_alive(told["pid"]), "PostgreSQL stops after its program")
            assert is_alive(told["child"])
        finally:
            os.kill(told["child"], signal.SIGKILL)


def test_temporary_data_goes_with_a_killed_program(directory: Path) -> None:
    with program(directory, temporary=True) as (process, told):
        [(sockets,)] = execute(told["url"], "SHOW unix_socket_directories")
        process.kill()
        eventually(lambda: not directory.exists(), "the temporary data is deleted")
        assert not os.path.exists(sockets)


def test_program_that_ends_without_stop_leaves_nothing(directory: Path) -> None:
    with program(directory) as (process, told):
        process.send_signal(signal.SIGTERM)
        process.wait()
        eventually(lambda: not is_alive(told["pid"]), "PostgreSQL stops after its program")


def _kill_supervisor(directory: Path) -> None:
    script = os.path.basename(supervisor_script)
    [guard] = [pid for pid in processes_of(directory) if script in command_line(pid)]
    os.kill(guard, signal.SIGKILL)
    eventually(lambda: not is_alive(guard), "the supervisor is gone")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="PR_SET_PDEATHSIG is Linux only")
def test_killed_supervisor_takes_postgres_along(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as server:
        _kill_supervisor(directory)
        eventually(lambda: not server.is_running, "PostgreSQL stops after its supervisor")
        server.restart()
        assert execute(server.url, "SELECT 1") == [(1,)]


def test_leftover_without_a_program_is_stopped(directory: Path) -> None:
    told: list[str] = []
    server = EmbeddedPostgres(directory, settings=FAST, on_progress=told.append)
    with server:
        port = server.port
    pid = _start_without_supervisor(directory, port)
    with server:
        assert not is_alive(pid)
        assert server.pid != pid
        assert execute(server.url, "SELECT 1") == [(1,)]
    assert f"stopping a PostgreSQL left by an earlier run (process {pid}) ..." in told


def _start_without_supervisor(directory: Path, port: int) -> int:
    execution = choose_execution(find_binaries(), directory)
    cluster = directory / "cluster"
    sockets = "-c unix_socket_directories=''"
    done = run_once(
        execution.run_as,
        [
            str(execution.binaries.directory / "pg_ctl"),
            *("start", "--wait", "-D", str(cluster), "-l", str(cluster / "log")),
            *("-o", f"-p {port} {sockets}"),
        ],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_pid_file(cluster)
    assert found is not None
    assert is_alive(found.pid)
    return found.pid


def test_stale_pid_file_that_names_another_process_is_ignored(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as server:
        pid_file = directory / "cluster" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        server.stop()
        owner = (directory / "cluster").stat()
        pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        os.chown(pid_file, owner.st_uid, owner.st_gid)
        server.start()
        assert execute(server.url, "SELECT 1") == [(1,)]


def test_directory_of_a_live_program_is_refused_by_name(directory: Path) -> None:
    with program(directory) as (process, told):
        with pytest.raises(DataDirectoryInUseError, match=rf"process {process.pid} \(program.py\)"):
            EmbeddedPostgres(directory, settings=FAST).start()
        assert execute(told["url"], "SELECT 1") == [(1,)]


def test_directory_used_by_this_process_is_refused(directory: Path) -> None:
    with (
        EmbeddedPostgres(directory, settings=FAST),
        pytest.raises(DataDirectoryInUseError, match="this process"),
    ):
        EmbeddedPostgres(directory, settings=FAST).start()


def test_server_of_a_live_program_is_reused_when_asked(directory: Path) -> None:
    with program(directory) as (_, told):
        with EmbeddedPostgres(directory, settings=FAST, reuse=True) as guest:
            assert guest.reused
            assert (guest.pid, guest.url) == (told["pid"], told["url"])
        assert is_alive(told["pid"])
        assert execute(told["url"], "SELECT 1") == [(1,)]


def test_start_waits_for_the_server_of_a_program_just_killed(directory: Path) -> None:
    with program(directory) as (process, first):
        execute(first["url"], "CREATE TABLE kept (n int)")
        process.kill()
        process.wait()
        with EmbeddedPostgres(directory, settings=FAST) as server:
            assert execute(server.url, "SELECT count(*) FROM kept") == [(0,)]
