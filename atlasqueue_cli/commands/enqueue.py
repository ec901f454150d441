"""`atlasqueue enqueue`: one job from the command line, or many from JSON lines."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from atlasqueue_cli.help import examples
from atlasqueue_cli.options import Settings

JOB = "The job (for JSON lines: where a line does not say)"
MANY = "JSON lines"
REFUSED_MAX = 100


class Each(StrEnum):
    """What each line is."""

    JOB = "job"
    PAYLOAD = "payload"


EPILOG = examples(
    "atlasqueue enqueue media resize cat.png          the payload is cat.png",
    "atlasqueue enqueue media resize @order.json      ... what is in the file",
    "date | atlasqueue enqueue media resize -         ... what comes from the pipe",
    "atlasqueue enqueue media resize cat.png --in 10m --priority 1",
    "atlasqueue enqueue media shout hello --wait      prints the result",
    "",
    "atlasqueue enqueue @jobs.jsonl                   a job a line:",
    '  {"queue": "media", "kind": "resize", "payloadText": "cat.png"}',
    '  {"queue": "media", "kind": "resize", "payloadJson": {"file": "dog.png"}}',
    "ls | atlasqueue enqueue - --queue media --kind resize --each payload",
)


def enqueue(
    settings: Settings,
    queue: Annotated[
        str,
        typer.Argument(
            metavar="QUEUE|-|@FILE",
            help="The queue; or - or @FILE for JSON lines, a job each.",
            show_default=False,
        ),
    ],
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help="The kind: the name of the handler.", show_default=False
        ),
    ] = None,
    payload: Annotated[
        str | None,
        typer.Argument(
            metavar="PAYLOAD",
            help="Text, @FILE, or - for standard input; @@x is the text @x. Default: empty.",
            show_default=False,
        ),
    ] = None,
    job_id: Annotated[
        str | None,
        typer.Option(
            help="A UUID. Enqueued again with the same id and content it stays one job. "
            "Default: made here, and repeated when a call is.",
        ),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait until the job has succeeded, and print its result."),
    ] = False,
    wait_timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="... but not longer than so.")
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(help="1 is most urgent, 5 least. [default: 3]", rich_help_panel=JOB),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Text beside the payload.", rich_help_panel=JOB),
    ] = None,
    run_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Not before this time: 2030-01-31T08:00:00Z.",
            rich_help_panel=JOB,
        ),
    ] = None,
    run_in: Annotated[
        str | None,
        typer.Option("--in", metavar="DURATION", help="Not before so long.", rich_help_panel=JOB),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="A run that lasts longer counts as a failed attempt.",
            rich_help_panel=JOB,
        ),
    ] = None,
    max_attempts: Annotated[
        int | None,
        typer.Option(
            help="Failures until it is a dead letter. [default: the queue's]", rich_help_panel=JOB
        ),
    ] = None,
    line_queue: Annotated[
        str | None, typer.Option("--queue", help="The queue.", rich_help_panel=MANY)
    ] = None,
    line_kind: Annotated[
        str | None, typer.Option("--kind", help="The kind.", rich_help_panel=MANY)
    ] = None,
    each: Annotated[
        Each, typer.Option(help="A line is a job in JSON, or a payload.", rich_help_panel=MANY)
    ] = Each.JOB,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN[:LINE]",
            help="Go on with a run that broke off, from the same lines: no job is stored twice.",
            rich_help_panel=MANY,
        ),
    ] = None,
    max_refused: Annotated[
        int,
        typer.Option(
            min=0,
            help="Stop when more lines than this are refused.",
            rich_help_panel=MANY,
        ),
    ] = REFUSED_MAX,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="No progress, only problems.", rich_help_panel=MANY),
    ] = False,
) -> int:
    """Hand in a job, or many as JSON lines.

    Prints the job's id once it is stored (committed). With - or @FILE alone each line is a job; progress
    goes to standard error, lines that are refused are named by their number and the others are stored.
    A server that goes away in the middle is waited for; ids are made here before they are sent, so nothing
    is lost and nothing is stored twice.
    """
    from atlasqueue_cli import enqueuing

    flags = enqueuing.Flags(
        priority, header or [], run_at, run_in, deadline, max_attempts, line_queue, line_kind
    )
    if queue == "-" or queue.startswith("@"):
        enqueuing.refuse_beside_lines(kind, job_id, wait or wait_timeout is not None)
        bulk = enqueuing.Bulk(queue, each is Each.PAYLOAD, resume, max_refused, quiet)
        return enqueuing.enqueue_lines(settings, flags, bulk)
    enqueuing.refuse_beside_one(line_queue, line_kind, resume, each is Each.PAYLOAD)
    one = enqueuing.One(queue, kind, payload or "", job_id)
    if wait or wait_timeout is not None:
        return enqueuing.enqueue_and_wait(settings, flags, one, wait_timeout)
    return enqueuing.enqueue_one(settings, flags, one)
