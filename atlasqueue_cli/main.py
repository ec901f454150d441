"""Assembles `atlasqueue` from its commands.

Imports what a command needs inside of it, so that --help answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from atlasqueue_cli.commands import cluster, dead_letters, enqueue, jobs, queues
from atlasqueue_cli.help import Command, Group, examples
from atlasqueue_cli.options import DEFAULT_SERVER, connected, told

JOBS, QUEUES, CLUSTER = "Jobs", "Queues", "Workers and servers"
# Wide enough for the examples, also where the output is no terminal.
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

EPILOG = examples(
    "atlasqueue enqueue media resize cat.png      hand in a job; prints its id",
    "atlasqueue wait JOB                          wait for it; prints its result",
    "atlasqueue enqueue @jobs.jsonl               hand in many",
    "atlasqueue top                               watch",
    "atlasqueue COMMAND --help                    learn more, with examples",
    "",
    f"Server: --server or ATLASQUEUE_SERVER, else {DEFAULT_SERVER}; several with commas.",
    "",
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not found,",
    "4 no server answers; wait: 5 dead letter, 6 cancelled, 7 not settled in time.",
)


def _group(help_text: str, epilog: str | None = None, *, completion: bool = False) -> typer.Typer:
    return typer.Typer(
        cls=Group,
        help=help_text,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=completion,
        # Boxes triple the time that --help takes; tracebacks print variables, which hold payloads.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )


app = _group(
    "Hand jobs to an AtlasQueue cluster, watch them, look after its queues.",
    EPILOG,
    completion=True,
)
queues_app = _group("List and show queues, change their policies.")
dead_letters_app = _group(
    "Look at jobs that cannot succeed without help. Run them again, or delete them."
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("atlasqueue-server")
        except PackageNotFoundError:
            number = "(not installed)"
        typer.echo(f"atlasqueue {number}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Its help is the app's."""


def _add(
    group: typer.Typer,
    name: str,
    command: Callable[..., Any],
    epilog: str,
    panel: str | None = None,
    **settings: Any,
) -> None:
    group.command(
        name,
        cls=Command,
        epilog=epilog,
        rich_help_panel=panel,
        no_args_is_help=settings.pop("needs_arguments", True),
        context_settings=CONTEXT,
    )(connected(command))


_add(app, "enqueue", enqueue.enqueue, enqueue.EPILOG, JOBS)
_add(app, "get", jobs.get, jobs.GET_EPILOG, JOBS)
_add(app, "list", jobs.list_jobs, jobs.LIST_EPILOG, JOBS)
_add(app, "wait", jobs.wait, jobs.WAIT_EPILOG, JOBS)
_add(app, "tail", jobs.tail, jobs.TAIL_EPILOG, JOBS)
_add(app, "cancel", jobs.cancel, jobs.CANCEL_EPILOG, JOBS)
app.add_typer(queues_app, name="queues", rich_help_panel=QUEUES)
_add(app, "pause", queues.pause, queues.PAUSE_EPILOG, QUEUES)
_add(app, "resume", queues.resume, queues.PAUSE_EPILOG, QUEUES)
app.add_typer(dead_letters_app, name="dead-letters", rich_help_panel=QUEUES)
_add(app, "workers", cluster.workers, cluster.WORKERS_EPILOG, CLUSTER, needs_arguments=False)
_add(app, "cluster", cluster.show_cluster, cluster.CLUSTER_EPILOG, CLUSTER, needs_arguments=False)
_add(app, "top", cluster.top, cluster.TOP_EPILOG, CLUSTER, needs_arguments=False)

_add(queues_app, "list", queues.list_queues, queues.LIST_EPILOG, needs_arguments=False)
_add(queues_app, "show", queues.show_queue, queues.SHOW_EPILOG)
_add(queues_app, "policy", queues.set_policy, queues.POLICY_EPILOG)

_add(dead_letters_app, "list", dead_letters.list_dead_letters, dead_letters.LIST_EPILOG)
_add(dead_letters_app, "show", dead_letters.show_dead_letter, dead_letters.SHOW_EPILOG)
_add(dead_letters_app, "redrive", dead_letters.redrive, dead_letters.REDRIVE_EPILOG)
_add(dead_letters_app, "purge", dead_letters.purge, dead_letters.PURGE_EPILOG)


def main() -> None:
    """The console script."""
    for name in ("stdout", "stderr"):
        # A process that was started with a closed one has none.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character shows its number instead of a traceback.
            stream.reconfigure(errors="backslashreplace")
    # gRPC writes to standard error by itself, also of what an error here tells.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        app(prog_name="atlasqueue")
    except OSError as error:
        # Help on a full disk; what commands print is told of where they run.
        sys.exit(told(error, DEFAULT_SERVER))
