"""The command `atlasqueue-server`: serve, dev, migrate, doctor, version.

Imports what a command needs inside of it, so that --help answers at once.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    name="atlasqueue-server",
    no_args_is_help=True,
    add_completion=False,
    # Its tracebacks print local variables, and those hold payloads and passwords.
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=(
        "The AtlasQueue server: a distributed job queue on PostgreSQL.\n\n"
        "Try it:  `atlasqueue-server dev`\n\n"
        "Run it:  `atlasqueue-server migrate` once for each version, then "
        "`atlasqueue-server serve` as often as you like on one database.\n\n"
        "Every setting is a flag, a variable (ATLASQUEUE_HTTP_PORT for --http-port) or a line in a "
        "TOML file (http_port = 7421); the first of these that is given wins."
    ),
)


class OutputFormat(StrEnum):
    """How a command prints its answer."""

    TEXT = "text"
    JSON = "json"


_SECURITY = "Who may connect"
_TUNING = "Tuning"

Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with settings. Also ATLASQUEUE_CONFIG."),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="PostgreSQL to use, as postgresql://user:password@host:5432/database. Other users of "
        "the machine can see flags: a password is safer in ATLASQUEUE_DATABASE_URL or the file."
    ),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")]
GrpcPort = Annotated[
    int | None, typer.Option(help="gRPC port; 0 takes any free one. Default: 7420.")
]
HttpPort = Annotated[
    int | None,
    typer.Option(help="Port of REST, /metrics, /healthz, /readyz; 0: any. Default: 7421."),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(help="PEM file: certificate chain of both ports.", rich_help_panel=_SECURITY),
]
TlsKey = Annotated[Path | None, typer.Option(help="PEM file: its key.", rich_help_panel=_SECURITY)]
TlsClientCa = Annotated[
    Path | None,
    typer.Option(
        help="PEM file: let only clients in whose certificate it signed.",
        rich_help_panel=_SECURITY,
    ),
]
Insecure = Annotated[
    bool | None,
    typer.Option(
        "--insecure",
        help="Listen on an address that others can reach without TLS. Whoever reaches it controls "
        "the queue.",
        rich_help_panel=_SECURITY,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        help="Server processes that share the gRPC port, 1 to 64, for more cores. Each is a full member "
        "of the cluster with an HTTP port of its own, counted up from --http-port; one that dies is "
        "started again. Default: 1.",
        rich_help_panel=_TUNING,
    ),
]
PoolMin = Annotated[
    int | None,
    typer.Option(
        help="Database connections kept open, 1 to 100. Default: 4.", rich_help_panel=_TUNING
    ),
]
PoolMax = Annotated[
    int | None,
    typer.Option(
        help="Database connections at most, 2 to 100. Default: 10.", rich_help_panel=_TUNING
    ),
]
DrainGrace = Annotated[
    float | None,
    typer.Option(
        help="How long a stop (SIGTERM) waits for running calls, 0 to 3600. Default: 30.",
        rich_help_panel=_TUNING,
    ),
]
ConnectionAge = Annotated[
    float | None,
    typer.Option(
        help="gRPC connections are renewed after so long, so that load spreads over servers; 0: "
        "never. Default: 1800.",
        rich_help_panel=_TUNING,
    ),
]
LeaderLease = Annotated[
    float | None,
    typer.Option(
        help="Another server leads the scheduler so long after its leader was last heard, 0.5 to 60. "
        "Default: 5.",
        rich_help_panel=_TUNING,
    ),
]
PingInterval = Annotated[
    float | None,
    typer.Option(
        help="Streams of workers are pinged so often, 0.2 to 60; a worker that misses pings opens "
        "its stream elsewhere. Default: 5.",
        rich_help_panel=_TUNING,
    ),
]
WriteTimeout = Annotated[
    float | None,
    typer.Option(
        help="A stream whose client does not read for so long is closed, 0.5 to 300. Default: 15.",
        rich_help_panel=_TUNING,
    ),
]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning or error. Default: info.")]
LogFormat = Annotated[str | None, typer.Option(help="console or json. Default: console.")]
DataDirectory = Annotated[
    Path | None,
    typer.Option(help="Where the embedded PostgreSQL keeps its data. Default: one of your own."),
]


@app.command(
    epilog="Examples:\n\n"
    "`ATLASQUEUE_DATABASE_URL=postgresql://queue:secret@db/queue atlasqueue-server serve`\n\n"
    "`atlasqueue-server serve --config /etc/atlasqueue.toml --log-format json`\n\n"
    "`atlasqueue-server serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem`\n\n"
    "`atlasqueue-server serve --processes 4` (HTTP on 7421 to 7424)\n\n"
    "Stop it with SIGTERM or Ctrl-C: it takes no new calls, lets running ones end, and leaves "
    "leases as they are. Exit code 2: a setting is wrong; 3: it could not start.",
)
def serve(
    config: Config = None,
    database_url: DatabaseUrl = None,
    host: Host = None,
    grpc_port: GrpcPort = None,
    http_port: HttpPort = None,
    processes: Processes = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    insecure: Insecure = None,
    database_pool_min: PoolMin = None,
    database_pool_max: PoolMax = None,
    drain_grace_seconds: DrainGrace = None,
    max_connection_age_seconds: ConnectionAge = None,
    leader_lease_seconds: LeaderLease = None,
    ping_interval_seconds: PingInterval = None,
    write_timeout_seconds: WriteTimeout = None,
) -> None:
    """Run a server on a database that `migrate` has prepared."""
    flags = dict(locals())
    from atlasqueue_server.cli_commands import serve as run

    _end(run, flags.pop("config"), flags)


@app.command(
    epilog="Examples:\n\n"
    "`atlasqueue-server dev`\n\n"
    "`atlasqueue-server dev --data-directory ./data --grpc-port 0 --http-port 0`\n\n"
    "`atlasqueue-server dev --database-url postgresql://me@localhost/scratch`\n\n"
    "The data is kept between runs; remove the directory to start over.",
)
def dev(
    data_directory: DataDirectory = None,
    database_url: DatabaseUrl = None,
    config: Config = None,
    grpc_port: GrpcPort = None,
    http_port: HttpPort = None,
    processes: Processes = None,
    log_level: LogLevel = None,
    log_format: LogFormat = None,
) -> None:
    """Run everything on this machine: an embedded PostgreSQL, its schema and a server.

    Only --database-url makes it use another PostgreSQL: a database from the environment or the
    config file is not touched by accident.
    """
    flags = dict(locals())
    from atlasqueue_server.cli_commands import dev as run

    _end(run, flags.pop("config"), flags.pop("data_directory"), flags)


@app.command(
    epilog="Examples:\n\n"
    "`atlasqueue-server migrate --database-url postgresql://queue@db/queue`\n\n"
    "`atlasqueue-server migrate --status` tells what is applied and what is not (also as "
    "--dry-run); it exits with 1 when something is not.\n\n"
    "Safe to run from several places at once: one works, the others wait for it.",
)
def migrate(
    config: Config = None,
    database_url: DatabaseUrl = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--status", help="Only tell what would be applied.")
    ] = False,
) -> None:
    """Bring the database's schema up to this version."""
    from atlasqueue_server.cli_commands import migrate as run

    _end(run, config, {"database_url": database_url}, dry_run)


@app.command(
    epilog="Examples:\n\n"
    "`atlasqueue-server doctor --database-url postgresql://queue@db/queue`\n\n"
    "`atlasqueue-server doctor -o json | jq '.findings[] | select(.level == \"problem\")'`\n\n"
    "It only reads, and a role that may not see everything is told what it could not see. Best is a role with "
    "`grant pg_read_all_stats`, and select on the tables of schema atlasqueue.\n\n"
    "Exit code 0: nothing is wrong; 1: warnings; 2: problems; 3: it could not look (a setting is wrong, the "
    "database does not answer).",
)
def doctor(
    config: Config = None,
    database_url: DatabaseUrl = None,
    output: Annotated[
        OutputFormat,
        typer.Option("--output", "-o", help="text for people, json for programs."),
    ] = OutputFormat.TEXT,
) -> None:
    """Examine the database and the cluster: what is wrong, why it matters, what to do.

    PostgreSQL: version, settings, a pooler in transaction mode, connections, standbys; what keeps dead rows
    (idle and long transactions, prepared transactions, replication slots); dead rows, invalid indexes, missing
    days of finished, the schema's version. The cluster: servers, versions, leader, clocks, queues that nobody
    serves.
    """
    from atlasqueue_server.cli_commands import doctor as run

    _end(run, config, {"database_url": database_url}, output.value)


@app.command()
def version() -> None:
    """Print the version."""
    from atlasqueue_server.version import VERSION

    typer.echo(f"atlasqueue-server {VERSION}")


def _end(command: Any, *arguments: Any) -> NoReturn:
    """Exit with what `command` returns; say in one line what kept it from starting."""
    from atlasqueue_server.startup import StartupError

    try:
        code = command(*arguments)
    except StartupError as error:
        for line in str(error).splitlines():
            typer.echo(f"atlasqueue-server: {line}", err=True)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def main() -> None:
    """The console script."""
    app()
