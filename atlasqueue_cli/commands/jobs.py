"""`atlasqueue get, list, wait, cancel, tail`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from atlasqueue_cli.help import examples
from atlasqueue_cli.options import Settings

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)]
JobIds = Annotated[
    list[str],
    typer.Argument(
        metavar="JOB…", help="Ids of jobs; - reads them from standard input.", show_default=False
    ),
]
QueueOfJob = Annotated[
    str,
    typer.Option(
        "--queue",
        help="The job's queue. Finds it faster, and is needed only when the id stands in several.",
    ),
]
QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.", show_default=False)]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]
All = Annotated[bool, typer.Option("--all", help="All of them, page after page.")]
Token = Annotated[
    str, typer.Option("--page-token", help="Go on where a list ended, which named this token.")
]


class State(StrEnum):
    """The states of a job."""

    SCHEDULED = "scheduled"
    READY = "ready"
    LEASED = "leased"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    DEAD = "dead"


GET_EPILOG = examples(
    "atlasqueue get 0198c5a2-7d1e-7c3a-9b1f-0242ac120002",
    "atlasqueue get 0198c5a2-7d1e-7c3a-9b1f-0242ac120002 -o json | jq .state",
    "atlasqueue get 0198c5a2-7d1e-7c3a-9b1f-0242ac120002 --only payload > cat.png",
)


class Part(StrEnum):
    """Bytes of a job."""

    PAYLOAD = "payload"
    RESULT = "result"
    CHECKPOINT = "checkpoint"


def get(
    settings: Settings,
    job_id: JobId,
    queue: QueueOfJob = "",
    only: Annotated[
        Part | None, typer.Option(help="Print these bytes as they are, and nothing else.")
    ] = None,
) -> None:
    """Show a job: its state, payload, failures."""
    from atlasqueue_cli import jobs

    jobs.get(settings, job_id, queue, only)


LIST_EPILOG = examples(
    "atlasqueue list media",
    "atlasqueue list media --state ready             in the order in which they will run",
    "atlasqueue list media --kind resize --created-after 1h",
    "atlasqueue list media --state leased --all -o json | jq -r .jobId",
)


def list_jobs(
    settings: Settings,
    queue: QueueName,
    state: Annotated[State | None, typer.Option(help="Only in this state.")] = None,
    kind: Annotated[str, typer.Option(help="Only of this kind.")] = "",
    created_after: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only enqueued at or after it: 2030-01-31T08:00:00Z, or 2h for two hours ago.",
        ),
    ] = None,
    created_before: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only enqueued before it.")
    ] = None,
    limit: Limit = 100,
    every: All = False,
    page_token: Token = "",
) -> None:
    """List the jobs of a queue, oldest id first."""
    from atlasqueue_cli import jobs

    wanted = jobs.Wanted(queue, state, kind, created_after, created_before)
    jobs.list_jobs(settings, wanted, None if every else limit, page_token)


WAIT_EPILOG = examples(
    "atlasqueue wait 0198c5a2-7d1e-7c3a-9b1f-0242ac120002 --timeout 5m",
    "atlasqueue list media --state leased -o json | jq -r .jobId | atlasqueue wait -",
    "",
    "One job: prints its result, as it is. Several: a line each.",
    "Exit code: 0 succeeded, 5 dead letter, 6 cancelled, 7 not settled in time,",
    "3 not found, 4 no server answers.",
)


def wait(
    settings: Settings,
    job_ids: JobIds,
    queue: QueueOfJob = "",
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Wait not longer than so: 90s, 5m.")
    ] = None,
) -> int:
    """Wait until jobs have settled. The exit code tells how."""
    from atlasqueue_cli import times, watching
    from atlasqueue_cli.jobs import ids_from

    limit = None if timeout is None else times.duration(timeout, "--timeout")
    ids = ids_from(job_ids)
    if len(job_ids) == 1 and job_ids[0] != "-":
        return watching.wait_for_one(settings, ids[0], queue, limit)
    return watching.wait_for_all(settings, ids, queue, limit)


CANCEL_EPILOG = examples(
    "atlasqueue cancel 0198c5a2-7d1e-7c3a-9b1f-0242ac120002",
    "atlasqueue cancel --queue media --state scheduled          tells how many",
    "atlasqueue cancel --queue media --state scheduled --yes    cancels them",
    "atlasqueue cancel --queue media --kind resize --created-before 2h --yes",
    "atlasqueue cancel --queue media --yes -o json | jq -r .jobId | atlasqueue wait -",
    "",
    "Without ids it is all jobs of the queue that wait or run and fit the options. What is enqueued",
    "meanwhile may be among them; --created-before keeps that out. Ended midway, the same command",
    "goes on. Exit code: 0 also when nothing fits, 1 an id was refused, 3 no such job or queue.",
)
WHICH = "Which"


class OpenState(StrEnum):
    """The states in which a job can be cancelled."""

    SCHEDULED = "scheduled"
    READY = "ready"
    LEASED = "leased"


def cancel(
    settings: Settings,
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB…",
            help="Ids of jobs; - reads them from standard input. Default: all that fit the options.",
            show_default=False,
        ),
    ] = None,
    queue: Annotated[
        str,
        typer.Option(
            help="Whose jobs. Beside ids: finds them faster, and is needed only when an id stands in "
            "several queues."
        ),
    ] = "",
    state: Annotated[
        OpenState | None,
        typer.Option(
            help="Only in this state. A job that leaves it first is spared.", rich_help_panel=WHICH
        ),
    ] = None,
    kind: Annotated[str, typer.Option(help="Only of this kind.", rich_help_panel=WHICH)] = "",
    created_after: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only enqueued at or after it: 2030-01-31T08:00:00Z, or 2h for two hours ago.",
            rich_help_panel=WHICH,
        ),
    ] = None,
    created_before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only enqueued before it.", rich_help_panel=WHICH),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            help="Do it. Without ids and without --yes only tells what would be done.",
        ),
    ] = False,
) -> int:
    """Cancel jobs, by id or by filter. A running one is asked to stop: it may still complete.

    What waits is cancelled when this returns. By id: a job that is succeeded, cancelled or a dead letter
    is refused, and the exit code is 1 then. By filter: without --yes nothing is done, it tells how many.
    """
    from atlasqueue_cli import cancel_many, jobs
    from atlasqueue_cli.errors import UsageError

    wanted = jobs.Wanted(queue, state, kind, created_after, created_before)
    if job_ids:
        # A script whose ids turn out to be none would cancel the whole queue if it could have --yes in it.
        if wanted.narrowed or yes:
            raise UsageError("give ids, or options that choose and --yes, not both")
        return jobs.cancel(settings, jobs.ids_from(job_ids), queue)
    if not queue:
        raise UsageError("nothing is chosen", "give ids, or --queue and what to cancel of it")
    return cancel_many.cancel_many(settings, wanted, yes)


TAIL_EPILOG = examples(
    "atlasqueue tail 0198c5a2-7d1e-7c3a-9b1f-0242ac120002",
    "atlasqueue list media --state leased -o json | jq -r .jobId | atlasqueue tail -",
)


def tail(settings: Settings, job_ids: JobIds, queue: QueueOfJob = "") -> int:
    """Print each change of jobs as it happens. Ends when all have settled."""
    from atlasqueue_cli import watching
    from atlasqueue_cli.jobs import ids_from

    return watching.tail(settings, ids_from(job_ids), queue)
