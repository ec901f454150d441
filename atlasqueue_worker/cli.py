"""The command atlasqueue-worker."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer

from atlasqueue.channel import Tls
from atlasqueue.errors import AtlasQueueError
from atlasqueue_worker import tracing
from atlasqueue_worker.app import App, AppNotFound, load_app
from atlasqueue_worker.garbage import collect_rarely
from atlasqueue_worker.metrics import WorkerMetrics
from atlasqueue_worker.worker import SLOTS_MAX, Worker

log = structlog.get_logger("atlasqueue.worker")

cli = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    # Its tracebacks are screens of frames that are not the handlers'.
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=(
        "Runs handlers for the jobs of an AtlasQueue server.\n\n"
        'Write them in a module:  `app = App()`, and `@app.job("resize", queue="media")` above each '
        "function of one argument, the job.\n\n"
        "Run them:  `atlasqueue-worker run MODULE:APP`"
    ),
)


@cli.callback()
def _root() -> None:
    """Keeps `run` a command of its own, so that others can stand beside it."""


@cli.command()
def run(
    application: Annotated[
        str,
        typer.Argument(metavar="MODULE:APP", help="Where the App is, as in my_package.jobs:app"),
    ],
    server: Annotated[
        str | None,
        typer.Option(
            envvar=["ATLASQUEUE_SERVER", "ATLASQUEUE_ADDRESS"],
            help="host:port of a server, or several with commas [default: 127.0.0.1:7420]",
        ),
    ] = None,
    slots: Annotated[
        int, typer.Option(envvar="ATLASQUEUE_SLOTS", min=1, max=SLOTS_MAX, help="Jobs run at once")
    ] = 10,
    queues: Annotated[
        str | None,
        typer.Option(
            envvar="ATLASQUEUE_QUEUES",
            help="Queues to serve, with commas [default: those of the handlers]",
        ),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            envvar="ATLASQUEUE_GRACE",
            min=0,
            help="Seconds for handlers to finish when stopped; then their jobs are released",
        ),
    ] = 30.0,
    name: Annotated[
        str | None, typer.Option(help="Name for people [default: host and process id]")
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="Connect with TLS, trusting the system's authorities")
    ] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="ATLASQUEUE_TLS_CA",
            help="Connect with TLS, trusting this PEM file: the authority that signed the server's",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            envvar="ATLASQUEUE_TLS_CLIENT_CERT",
            help="PEM file with the worker's own certificate, for servers with --tls-client-ca",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(envvar="ATLASQUEUE_TLS_CLIENT_KEY", help="PEM file with its key"),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="ATLASQUEUE_METRICS_PORT",
            min=0,
            max=65535,
            help="Serve /metrics for Prometheus on this port; 0: any free one [default: not at all]",
        ),
    ] = None,
    metrics_host: Annotated[
        str,
        typer.Option(
            envvar="ATLASQUEUE_METRICS_HOST",
            help="Address of that port; others can read it there, it has no TLS",
        ),
    ] = "127.0.0.1",
    log_level: Annotated[
        str, typer.Option(envvar="ATLASQUEUE_LOG_LEVEL", help="debug, info, warning or error")
    ] = "info",
    log_format: Annotated[
        str, typer.Option(envvar="ATLASQUEUE_LOG_FORMAT", help="console or json")
    ] = "console",
) -> None:
    """Run the handlers of an App until SIGTERM or Ctrl-C.

    A first signal drains: no more jobs are taken, running handlers finish within the grace, then
    their jobs go back without spending an attempt. A second signal ends at once.

    Example: `atlasqueue-worker run examples.media_index.app:app --server 127.0.0.1:7420 --slots 20`
    """
    configure_logs(log_level, log_format)
    files = tls_files(tls, tls_ca, tls_cert, tls_key)
    # Before the handlers are imported, so that they find the tracer provider.
    end_tracing = tracing.configure()
    app = load(application)
    chosen = None if queues is None else [q.strip() for q in queues.split(",") if q.strip()]
    if chosen == []:
        raise typer.BadParameter("--queues names none: leave it out for those of the handlers")

    metrics = None if metrics_port is None else serve_metrics(metrics_host, metrics_port)

    def worker() -> Worker:
        return Worker(
            app, server, slots=slots, queues=chosen, name=name, grace=grace, tls=files,
            metrics=metrics,
        )  # fmt: skip

    _run(worker, end_tracing)


def tls_files(tls: bool, ca: Path | None, cert: Path | None, key: Path | None) -> Tls | None:
    """The files of the flags, or None for plain text. Raises typer.BadParameter, saying what is wrong."""
    if (cert is None) != (key is None):
        raise typer.BadParameter("--tls-cert and --tls-key must be given together")
    if not tls and ca is None and cert is None:
        return None
    files = Tls(ca, cert, key)
    try:
        files.credentials()
    except OSError as error:
        raise typer.BadParameter(f"{error.filename} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return files


def serve_metrics(host: str, port: int) -> WorkerMetrics:
    """Metrics on a port of their own. Raises typer.BadParameter when the port cannot be had."""
    metrics = WorkerMetrics()
    try:
        bound = metrics.serve(host, port)
    except OSError as error:
        raise typer.BadParameter(f"--metrics-port {port} on {host}: {error.strerror}") from error
    log.info("metrics", http=f"{host}:{bound}")
    return metrics


def load(application: str) -> App:
    """The App that MODULE:APP names. Raises typer.BadParameter, saying what is wrong."""
    try:
        return load_app(application)
    except AppNotFound as error:
        raise typer.BadParameter(str(error)) from error


def configure_logs(level: str, style: str) -> None:
    """Structured logs on standard error."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None or style not in ("console", "json"):
        raise typer.BadParameter(
            "--log-level is debug, info, warning or error; --log-format console or json"
        )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _run(make_worker: Callable[[], Worker], end_tracing: Callable[[], None] | None) -> NoReturn:
    collect_rarely()
    code = _exit_code(make_worker)
    if end_tracing is not None:
        end_tracing()
    # A thread that still runs a handler would keep the process; its job was released.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(make_worker: Callable[[], Worker]) -> int:
    """Runs the worker to its end; 0, or the code for what ended it, which is told."""
    held: list[str] | None = None

    async def work() -> None:
        nonlocal held
        worker = make_worker()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        try:
            await worker.run()
        except asyncio.CancelledError:
            # Signals drain it; this is what becomes of a loop that was stopped.
            held = sorted({job.kind for job in worker.held.snapshot()[0]})
            raise

    try:
        if sys.platform != "win32":
            import uvloop

            uvloop.run(work())
        else:
            asyncio.run(work())
    except ValueError as error:
        return _told(error, 2)
    except AtlasQueueError as error:
        return _told(error, 1)
    except KeyboardInterrupt:
        # Signals drain it.
        return _told("a handler raised KeyboardInterrupt, which ends the worker", 130)
    except RuntimeError:
        if held is None:
            raise
        return _told(
            "a handler stopped the worker's event loop, and with it the worker, which held jobs of kind "
            + ", ".join(held),
            1,
        )
    return 0


def _told(what: object, code: int) -> int:
    typer.echo(f"error: {what}", err=True)
    return code


def main() -> None:
    """Entry point."""
    cli()
