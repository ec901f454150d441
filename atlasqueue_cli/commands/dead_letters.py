"""`atlasqueue dead-letters list, show, redrive, purge`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from atlasqueue_cli.commands.jobs import All, JobId, Limit, QueueName, QueueOfJob, Token
from atlasqueue_cli.help import examples
from atlasqueue_cli.options import Settings

FILTER = "Which"


class Reason(StrEnum):
    """Why a job is a dead letter."""

    ATTEMPTS_SPENT = "attempts_spent"
    REJECTED = "rejected"
    CRASH_LOOP = "crash_loop"
    DEADLINE = "deadline"
    UNKNOWN_KIND = "unknown_kind"
    BODY_LOST = "body_lost"


Kind = Annotated[str, typer.Option(help="Only of this kind.", rich_help_panel=FILTER)]
ReasonOption = Annotated[
    Reason | None, typer.Option(help="Only with this reason.", rich_help_panel=FILTER)
]
DiedBefore = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Only those that died before it: 2030-01-31T08:00:00Z, or 2h for two hours ago.",
        rich_help_panel=FILTER,
    ),
]
JobIdsOrNone = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="JOB…",
        help="Only these; - reads ids from standard input. Default: all that fit the options.",
        show_default=False,
    ),
]
Most = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="At most so many; 1 to try first.", rich_help_panel=FILTER),
]
Every = Annotated[
    bool, typer.Option("--all", help="Every dead letter of the queue.", rich_help_panel=FILTER)
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do it. Without, only tells what would be done.")
]

LIST_EPILOG = examples(
    "atlasqueue dead-letters list media",
    "atlasqueue dead-letters list media --reason attempts_spent --died-before 1d",
    "atlasqueue dead-letters list media --all -o json | jq -r '.failures[0].error.message'",
)


def list_dead_letters(
    settings: Settings,
    queue: QueueName,
    kind: Kind = "",
    reason: ReasonOption = None,
    died_before: DiedBefore = None,
    limit: Limit = 100,
    every: All = False,
    page_token: Token = "",
) -> None:
    """List the dead letters of a queue, each with its last error."""
    from atlasqueue_cli import dead_letters

    chosen = dead_letters.Chosen(queue, [], kind, reason, died_before)
    dead_letters.list_all(settings, chosen, None if every else limit, page_token)


SHOW_EPILOG = examples("atlasqueue dead-letters show 0198c5a2-7d1e-7c3a-9b1f-0242ac120002")


def show_dead_letter(settings: Settings, job_id: JobId, queue: QueueOfJob = "") -> None:
    """Show a dead letter: its payload, and each failure with its stack."""
    from atlasqueue_cli import dead_letters

    dead_letters.show(settings, job_id, queue)


REDRIVE_EPILOG = examples(
    "atlasqueue dead-letters redrive media                    tells how many",
    "atlasqueue dead-letters redrive media --limit 1 --yes    tries one",
    "atlasqueue dead-letters redrive media --yes              runs all of them again",
    "atlasqueue dead-letters redrive media --reason crash_loop --kind resize --yes",
    "atlasqueue dead-letters redrive media 0198c5a2-7d1e-7c3a-9b1f-0242ac120002 --yes",
)


def redrive(
    settings: Settings,
    queue: QueueName,
    job_ids: JobIdsOrNone = None,
    kind: Kind = "",
    reason: ReasonOption = None,
    died_before: DiedBefore = None,
    limit: Most = None,
    yes: Yes = False,
) -> int:
    """Run dead letters again: they are ready, their attempts start anew.

    Without --yes nothing is done: it tells how many there are.
    """
    from atlasqueue_cli import dead_letters

    chosen = dead_letters.Chosen(queue, job_ids or [], kind, reason, died_before, limit)
    return dead_letters.act(settings, dead_letters.REDRIVE, chosen, yes)


PURGE_EPILOG = examples(
    "atlasqueue dead-letters purge media --died-before 7d         tells how many",
    "atlasqueue dead-letters purge media --died-before 7d --yes   deletes them",
    "atlasqueue dead-letters purge media --all --yes              deletes all of the queue",
)


def purge(
    settings: Settings,
    queue: QueueName,
    job_ids: JobIdsOrNone = None,
    kind: Kind = "",
    reason: ReasonOption = None,
    died_before: DiedBefore = None,
    limit: Most = None,
    every: Every = False,
    yes: Yes = False,
) -> int:
    """Delete dead letters for good, with all that is known of them.

    Without --yes nothing is done: it tells how many there are.
    """
    from atlasqueue_cli import dead_letters

    chosen = dead_letters.Chosen(queue, job_ids or [], kind, reason, died_before, limit)
    if yes:
        chosen.refuse_all_unless(every)
    return dead_letters.act(settings, dead_letters.PURGE, chosen, yes)
