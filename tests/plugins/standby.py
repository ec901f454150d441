"""A standby of an embedded PostgreSQL, made by pg_basebackup and fed by streaming replication."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from atlasqueue_server.embedded import EmbeddedPostgres, find_binaries
from atlasqueue_server.embedded.privileges import choose_execution
from atlasqueue_server.embedded.spawn import run_once
from tests.ports import free_port

NAME = "standby_1"
NOWHERE = "host=127.0.0.1 port=1 application_name=nowhere"


def make_standby(
    primary: EmbeddedPostgres, directory: Path, settings: Mapping[str, str]
) -> EmbeddedPostgres:
    """A standby in `directory`, which is made; start it to let it follow.

    pg_basebackup writes the primary's address into its configuration (-R).
    """
    directory.mkdir(parents=True)
    execution = choose_execution(find_binaries(), directory)
    cluster = directory / "cluster"
    cluster.mkdir(mode=0o700)
    os.chown(cluster, *execution.owner)
    parts = urlsplit(primary.url)
    command = [str(execution.binaries.directory / "pg_basebackup"), "-D", str(cluster), "-R"]
    command += ["-X", "stream", "-c", "fast", "--no-sync", "-d"]
    command += [
        f"host=127.0.0.1 port={parts.port} user={parts.username} password={parts.password} "
        f"application_name={NAME}"
    ]
    done = run_once(execution.run_as, command)
    assert done.returncode == 0, done.stderr
    # The cluster has the primary's passwords.
    shutil.copy(primary.data_directory / "password", directory / "password")
    return EmbeddedPostgres(directory, settings=settings, port=free_port(), temporary=True)


def set_synchronous(primary: EmbeddedPostgres, wanted: bool) -> None:
    """Lets every commit wait for the standby, or not, once it streams."""
    names = f"'{NAME}'" if wanted else "''"
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute(f"alter system set synchronous_standby_names = {names}".encode())
        connection.execute("select pg_reload_conf()")


def sync_state(primary: EmbeddedPostgres) -> str:
    """What the primary says of the standby: sync, async, or "" when it is not connected."""
    with psycopg.connect(primary.url, autocommit=True) as connection:
        row = connection.execute(
            "select sync_state from pg_stat_replication"
            " where application_name = %s and state = 'streaming'",
            (NAME,),
        ).fetchone()
    return row[0] if row else ""


def cut_off(standby: EmbeddedPostgres) -> None:
    """The standby hears its primary no more."""
    with psycopg.connect(standby.url, autocommit=True) as connection:
        connection.execute(f"alter system set primary_conninfo = '{NOWHERE}'".encode())
        connection.execute("select pg_reload_conf()")


def promote(standby: EmbeddedPostgres) -> None:
    """The standby becomes the primary; returns when it takes writes."""
    with psycopg.connect(standby.url, autocommit=True) as connection:
        row = connection.execute("select pg_promote(true, 60)").fetchone()
    assert row == (True,)


def kill(postgres: EmbeddedPostgres) -> None:
    """kill -9 of PostgreSQL; its sessions notice and end."""
    os.kill(postgres.pid, signal.SIGKILL)


def either(primary_url: str, standby: EmbeddedPostgres) -> str:
    """A URL of both, of which the driver takes the one that can be written to."""
    parts = urlsplit(primary_url)
    place = f"{parts.username}:{parts.password}@127.0.0.1:{parts.port},127.0.0.1:{standby.port}"
    return urlunsplit(parts._replace(netloc=place, query="target_session_attrs=read-write"))
