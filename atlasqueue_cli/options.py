"""The options that every command has, and the frame in which a command runs."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from atlasqueue_cli.errors import CliError, ExitCode, Terminated, UsageError, explain

if TYPE_CHECKING:
    from atlasqueue.channel import Tls

CONNECTION = "Servers"
DEFAULT_SERVER = "127.0.0.1:7420"
DEBUG_VARIABLE = "ATLASQUEUE_DEBUG"


class Output(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True)
class Settings:
    """What the common options say."""

    output: Output
    server: str | None
    retry_for: float | None
    timeout: float
    tls: bool
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None

    @property
    def json(self) -> bool:
        """JSON lines are wanted."""
        return self.output is Output.JSON

    @property
    def servers(self) -> str:
        """The addresses, for people."""
        return self.server or DEFAULT_SERVER

    def patience(self, seconds: float) -> Settings:
        """The same, with a default for how long calls are repeated."""
        return self if self.retry_for is not None else replace(self, retry_for=seconds)

    def tls_files(self) -> Tls | None:
        """The files for TLS, or None for plain text. Raises UsageError, saying what is wrong."""
        from atlasqueue.channel import Tls

        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("--tls-cert and --tls-key must be given together")
        if not self.tls and self.tls_ca is None and self.tls_cert is None:
            return None
        files = Tls(self.tls_ca, self.tls_cert, self.tls_key)
        try:
            files.credentials()
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(str(error)) from error
        return files


def _shared(
    output: Annotated[
        Output,
        typer.Option(
            "--output", "-o", help="table for people, json for programs: one object a line."
        ),
    ] = Output.TABLE,
    server: Annotated[
        str | None,
        typer.Option(
            envvar=["ATLASQUEUE_SERVER", "ATLASQUEUE_ADDRESS"],
            metavar="HOST:PORT,…",
            help="A server, or several of one cluster: when one does not answer, the next is called. "
            f"[default: {DEFAULT_SERVER}]",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    retry_for: Annotated[
        float | None,
        typer.Option(
            envvar="ATLASQUEUE_RETRY_FOR",
            min=0,
            metavar="SECONDS",
            help="How long a call is repeated while no server answers. "
            "[default: 5; 120 for JSON lines]",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    call_timeout: Annotated[
        float,
        typer.Option(
            min=0.001,
            metavar="SECONDS",
            help="How long one try may take.",
            rich_help_panel=CONNECTION,
        ),
    ] = 10.0,
    tls: Annotated[
        bool,
        typer.Option(
            "--tls",
            help="Use TLS, trusting the system's authorities.",
            rich_help_panel=CONNECTION,
        ),
    ] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            envvar="ATLASQUEUE_TLS_CA",
            help="Use TLS, trusting the authority in this PEM file.",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            envvar="ATLASQUEUE_TLS_CLIENT_CERT",
            help="PEM file with your own certificate, for servers that ask for one.",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            envvar="ATLASQUEUE_TLS_CLIENT_KEY",
            help="PEM file with its key.",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
) -> None:
    """Holds the signature of the common options."""


def connected(command: Callable[..., int | None]) -> Callable[..., None]:
    """A command that takes Settings first: gives it the common options and the frame.

    What the command returns is the exit code; None is 0.
    """
    shared, own = inspect.signature(_shared), inspect.signature(command)

    def run(**arguments: Any) -> None:
        common = {name: arguments.pop(name) for name in shared.parameters}
        settings = Settings(timeout=common.pop("call_timeout"), **common)
        raise typer.Exit(framed(lambda: command(settings, **arguments), settings.servers))

    parameters = [*list(own.parameters.values())[1:], *shared.parameters.values()]
    hints = get_type_hints(command, include_extras=True)
    hints |= get_type_hints(_shared, include_extras=True)
    run.__annotations__ = {p.name: hints[p.name] for p in parameters}
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name])
            for p in parameters
        ]
    )
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, __name__
    return run


def framed(work: Callable[[], int | None], servers: str) -> int:
    """Runs a command; whatever ends it becomes a line on standard error and an exit code."""
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _terminate)
        code = work() or ExitCode.OK
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Terminated:
        return ExitCode.TERMINATED
    except OSError as error:
        # What is still buffered has nowhere to go, and would fail again at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Who read our output has seen enough (`| head`).
        return ExitCode.OK if isinstance(error, BrokenPipeError) else told(error, servers)
    except Exception as error:
        return told(error, servers)


def told(error: Exception, servers: str) -> ExitCode:
    """Tells of an error and returns its exit code."""
    from atlasqueue.errors import AtlasQueueError

    if isinstance(error, UnicodeEncodeError):
        # Bytes of an argument that are no text became half surrogates, which no message can hold.
        error = UsageError(f"{error.object!a} is not UTF-8")
    elif isinstance(error, OSError):
        # Files that are read are explained where they are opened.
        error = CliError(f"the answer cannot be written: {error.strerror or error}")
    if isinstance(error, CliError | AtlasQueueError):
        known = explain(error, servers)
        complain(known.message, known.hint)
        return known.code
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    complain(
        f"this should not happen: {type(error).__name__}: {error}",
        f"it is a bug, please report it; {DEBUG_VARIABLE}=1 shows where",
    )
    return ExitCode.BUG


def complain(message: str, hint: str = "") -> None:
    """One line for what is wrong, one for what to do."""
    from atlasqueue_cli.output import clean

    lines = "\n".join(clean(line) for line in message.splitlines())
    typer.echo(f"atlasqueue: {lines}", err=True)
    if hint:
        typer.echo(f"  hint: {hint}", err=True)


def _terminate(*_: Any) -> None:
    raise Terminated
