"""What the commands of `atlasqueue-server` do, without the parsing of their flags."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import typer

from atlasqueue_server import logs
from atlasqueue_server.config import ServerConfig, load
from atlasqueue_server.startup import StartupError, address

Flags = Mapping[str, Any]
T = TypeVar("T")


def serve(config_file: Path | None, flags: Flags) -> int:
    """Run a server until it is told to stop; returns the exit code. Raises StartupError."""
    return _run(load(flags, config_file))


def dev(config_file: Path | None, data_directory: Path | None, flags: Flags) -> int:
    """Run PostgreSQL, migrate and serve; returns the exit code. Raises StartupError."""
    with _database(data_directory, flags.get("database_url")) as (url, for_sql):
        config = load({**flags, "database_url": url}, config_file)
        _migrate(url)
        _say("\n" + how_to_talk(config, for_sql))
        return _run(config)


def migrate(config_file: Path | None, flags: Flags, dry_run: bool) -> int:
    """Migrate, or tell what is pending (then 1 is returned). Raises StartupError."""
    url = load(flags, config_file).database_url.get_secret_value()
    if not dry_run:
        _migrate(url)
        return 0
    from atlasqueue_server.store.migrations import status

    report = _on_database(status(url))
    for name in report.pending:
        _say(f"not applied: {name}")
    _say(f"the database is at version {report.version}, this server at {report.known}")
    return 1 if report.pending else 0


def doctor(config_file: Path | None, flags: Flags, output: str) -> int:
    """Examine database and cluster, print what is wrong; the exit code of docs/operating/doctor.md."""
    from atlasqueue_server.doctor_report import EXIT_UNABLE, exit_code, to_json, to_text

    try:
        url = load(flags, config_file).database_url.get_secret_value()
        from atlasqueue_server.domain.doctor import look

        diagnosis = _on_database(look(url))
    except StartupError as error:
        # 2 is the worst diagnosis here: what cannot be examined has a code of its own.
        for line in str(error).splitlines():
            _say(f"atlasqueue-server: {line}")
        return EXIT_UNABLE
    typer.echo(to_json(diagnosis) if output == "json" else to_text(diagnosis))
    return exit_code(diagnosis)


def how_to_talk(config: ServerConfig, for_sql: str = "") -> str:
    """Lines that show what to type against a server that runs with `config`, those of its database among them."""
    if config.grpc_port == 0 or config.http_port == 0:
        return f"{for_sql}The log names the ports. Stop with Ctrl-C."
    grpc = address(config.host, config.grpc_port)
    rest = f"http{'s' if config.tls else ''}://{address(config.host, config.http_port)}"
    grpcurl = "grpcurl" if config.tls else "grpcurl -plaintext"
    # "hello" in base64, as JSON has bytes.
    job = '{"kind": "greet", "payload": "aGVsbG8="}'
    bin_ = _bin_directory()
    tls = " --tls-ca CA.pem" if config.tls else ""
    return f"""\
gRPC  {grpc}
HTTP  {rest}   (/docs, /metrics, /healthz, /readyz)

Enqueue a job, watch the queues, run a worker that handles it:
  {bin_}atlasqueue enqueue default greet hello --server {grpc}{tls}
  {bin_}atlasqueue top --server {grpc}{tls}
  {bin_}atlasqueue-worker run MODULE:APP --server {grpc}{tls}

The same with curl:
  curl -H 'content-type: application/json' -d '{job}' {rest}/v1/queues/default/jobs
  curl {rest}/v1/queues/default/depth
  curl {rest}/v1/queues/default/jobs

The same with grpcurl:
  {grpcurl} {grpc} list
  {grpcurl} -d '{{"job": {{"queue": "default", "kind": "greet"}}}}' \\
      {grpc} atlasqueue.v1.JobService/Enqueue
  {grpcurl} -d '{{"queues": ["default"], "slots": 1, "worker": "me"}}' \\
      {grpc} atlasqueue.v1.WorkerService/Lease

{for_sql}Stop with Ctrl-C.
"""


def how_to_query(url_in_shell: str, own_psql: Path) -> str:
    """Lines that open the embedded PostgreSQL with psql: the installed one, else its own."""
    psql = "psql" if shutil.which("psql") else _shown(own_psql)
    return f"""\
Look at the tables, enqueue from SQL:
  export DATABASE_URL={url_in_shell}
  {psql} "$DATABASE_URL" -c '\\dt atlasqueue.*'

"""


def _bin_directory() -> str:
    """Where the other commands are, as a shell here would have to write it; empty when it finds them."""
    return "" if shutil.which("atlasqueue") else f"{_shown(Path(sys.executable).parent)}/"


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


@contextlib.contextmanager
def _database(data_directory: Path | None, url: str | None) -> Iterator[tuple[str, str]]:
    """The database's address, and lines that open it when it is the embedded one."""
    if url:
        yield url, ""
        return
    try:
        from atlasqueue_server.embedded import (
            EmbeddedPostgres,
            EmbeddedPostgresError,
            default_data_directory,
        )
    except ImportError as error:
        raise StartupError(
            f"the embedded PostgreSQL needs a POSIX system ({error}): give --database-url"
        ) from error
    directory = data_directory or default_data_directory()
    _say(f"PostgreSQL  data in {directory}")
    try:
        with EmbeddedPostgres(
            directory, on_progress=lambda step: _say(f"            {step}")
        ) as it:
            yield it.url, how_to_query(it.url_in_shell, it.psql)
    except EmbeddedPostgresError as error:
        raise StartupError(str(error)) from error


def _migrate(url: str) -> None:
    from atlasqueue_server.store.migrations import migrate as apply

    report = _on_database(apply(url, _say))
    for name in report.applied:
        _say(f"applied {name}")
    _say(f"schema      version {report.version}")


def _on_database(work: Coroutine[Any, Any, T]) -> T:
    """The result of work on the schema; what the database makes impossible is a StartupError."""
    from atlasqueue_server.model.errors import DatabaseUnavailable
    from atlasqueue_server.store.fitness import UnfitDatabase

    try:
        return asyncio.run(work)
    except (DatabaseUnavailable, UnfitDatabase) as error:
        raise StartupError(str(error)) from error


def _run(config: ServerConfig) -> int:
    logs.configure(config.log_level, config.log_format)
    if config.processes > 1:
        from atlasqueue_server.processes import run as run_several

        return run_several(config)
    from atlasqueue_server.app import run

    return run(config)


def _say(line: str) -> None:
    typer.echo(line, err=True)
