"""`atlasqueue queues list, show, policy`, and `pause`, `resume`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from atlasqueue_cli.commands.jobs import QueueName
from atlasqueue_cli.help import examples
from atlasqueue_cli.options import Settings

QueueNames = Annotated[
    list[str], typer.Argument(metavar="QUEUE…", help="The queues.", show_default=False)
]


class PolicyField(StrEnum):
    """The fields of a queue's policy."""

    MAX_ATTEMPTS = "max-attempts"
    INITIAL_BACKOFF = "initial-backoff"
    MULTIPLIER = "multiplier"
    MAX_BACKOFF = "max-backoff"
    VISIBILITY_TIMEOUT = "visibility-timeout"


LIST_EPILOG = examples(
    "atlasqueue queues list",
    "atlasqueue queues list -o json | jq -r 'select(.depth.dead != \"0\") | .name'",
)


def list_queues(
    settings: Settings,
    depth: Annotated[
        bool, typer.Option("--depth/--no-depth", help="Count the jobs of each by state.")
    ] = True,
) -> None:
    """List all queues, with their jobs by state."""
    from atlasqueue_cli import queues

    queues.list_queues(settings, depth)


SHOW_EPILOG = examples("atlasqueue queues show media")


def show_queue(settings: Settings, queue: QueueName) -> None:
    """Show a queue: its jobs by state, its policy."""
    from atlasqueue_cli import queues

    queues.show(settings, queue)


POLICY_EPILOG = examples(
    "atlasqueue queues policy media --max-attempts 5 --max-backoff 10m",
    "atlasqueue queues policy media --visibility-timeout 2m",
    "atlasqueue queues policy media --reset max-attempts      back to the default",
)


def set_policy(
    settings: Settings,
    queue: QueueName,
    max_attempts: Annotated[
        int | None, typer.Option(help="Failures until a job is a dead letter. [default: 20]")
    ] = None,
    initial_backoff: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Bound of the first delay. [default: 1s]"),
    ] = None,
    multiplier: Annotated[
        float | None, typer.Option(help="Growth of the bound with each failure. [default: 2]")
    ] = None,
    max_backoff: Annotated[
        str | None, typer.Option(metavar="DURATION", help="No delay is longer. [default: 1h]")
    ] = None,
    visibility_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="A worker is lost after so long without a heartbeat. [default: 30s]",
        ),
    ] = None,
    reset: Annotated[
        list[PolicyField] | None, typer.Option(help="Set this one back to the default.")
    ] = None,
) -> None:
    """Change how a queue treats its jobs; without options show it.

    The queue comes into being if it does not exist. Jobs with a policy of their own keep it.
    """
    from atlasqueue_cli import queues

    given = {
        "max_attempts": max_attempts,
        "initial_backoff": initial_backoff,
        "multiplier": multiplier,
        "max_backoff": max_backoff,
        "visibility_timeout": visibility_timeout,
    }
    queues.set_policy(settings, queue, given, [name.replace("-", "_") for name in reset or ()])


PAUSE_EPILOG = examples("atlasqueue pause media", "atlasqueue resume media")


def pause(settings: Settings, queues: QueueNames) -> None:
    """Stop leasing from queues. Jobs that run go on, enqueue goes on.

    When it returns, no server grants another lease. A queue that does not exist comes into being, paused.
    """
    from atlasqueue_cli import queues as work

    work.pause(settings, queues)


def resume(settings: Settings, queues: QueueNames) -> None:
    """Lease from paused queues again."""
    from atlasqueue_cli import queues as work

    work.resume(settings, queues)
