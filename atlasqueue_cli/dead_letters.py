"""What `atlasqueue dead-letters` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from atlasqueue.calls import Stubs
from atlasqueue.jobs import to_timestamp
from atlasqueue.v1 import job_pb2
from atlasqueue.v1 import queue_service_pb2 as pb
from atlasqueue_cli import output, times, views
from atlasqueue_cli.connection import Connection
from atlasqueue_cli.errors import CliError, ExitCode, UsageError
from atlasqueue_cli.jobs import ids_from, print_pages, read_job
from atlasqueue_cli.options import Settings
from atlasqueue_cli.progress import grouped, progress

CALL_MAX = 10_000


@dataclass(frozen=True)
class Act:
    """Redrive or purge: what to call, and how to tell of it."""

    name: str
    # In words; and the field of the answer that says how many.
    done: str
    request: Callable[..., Any]
    pick: Callable[[Stubs], Any]


REDRIVE = Act(
    "redrive",
    "redriven",
    pb.RedriveDeadLettersRequest,
    lambda stubs: stubs.queues.RedriveDeadLetters,
)
PURGE = Act(
    "purge",
    "purged",
    pb.PurgeDeadLettersRequest,
    lambda stubs: stubs.queues.PurgeDeadLetters,
)


@dataclass(frozen=True)
class Chosen:
    """Which dead letters."""

    queue: str
    job_ids: list[str]
    kind: str
    reason: str | None
    died_before: str | None
    limit: int | None = None

    def filter(self) -> pb.DeadLetterFilter:
        """As a filter on the wire. Raises UsageError."""
        wanted = pb.DeadLetterFilter(kind=self.kind)
        if self.reason is not None:
            name = f"DEAD_LETTER_REASON_{self.reason.upper()}"
            wanted.reason = job_pb2.DeadLetterReason.Value(name)
        if self.died_before is not None:
            time = times.moment(self.died_before, "--died-before")
            wanted.died_before.CopyFrom(to_timestamp(time))
        return wanted

    @property
    def filtered(self) -> bool:
        """Something narrows it down."""
        return bool(self.kind or self.reason or self.died_before)

    def refuse_all_unless(self, asked: bool) -> None:
        """A list of ids that came out empty must not mean all. Raises UsageError."""
        narrowed = self.job_ids or self.filtered or self.limit is not None
        if not (narrowed or asked):
            raise UsageError(
                f"this deletes every dead letter of {self.queue}: give ids or options that choose, or --all"
            )
        if narrowed and asked:
            raise UsageError("give --all, or ids or options that choose, not both")


def list_all(settings: Settings, chosen: Chosen, limit: int | None, page_token: str) -> None:
    """Lists dead letters."""
    request = pb.ListDeadLettersRequest(
        queue=chosen.queue, filter=chosen.filter(), page_token=page_token
    )
    print_pages(
        settings,
        request,
        (lambda stubs: stubs.queues.ListDeadLetters, "jobs"),
        (views.DEAD_HEADER, views.dead_row),
        limit,
    )


def show(settings: Settings, job_id: str, queue: str) -> None:
    """Shows a dead letter with its stacks."""
    with Connection(settings) as connection:
        job = read_job(connection, job_id, queue)
    if job.state != job_pb2.JOB_STATE_DEAD:
        raise CliError(
            f"job {job.job_id} is no dead letter: it is {views.state_name(job.state)}",
            hint=f"`atlasqueue get {job.job_id}` shows it",
        )
    if settings.json:
        output.print_json(job)
        return
    output.print_card(views.job_card(job))
    for failure in job.failures:
        if failure.error.stack:
            print(f"\nstack of fence {failure.fence}:")
            for line in failure.error.stack.splitlines():
                print(f"  {output.clean(line)}")


def act(settings: Settings, what: Act, chosen: Chosen, yes: bool) -> int:
    """Redrives or purges; without `yes` only tells how many."""
    if chosen.job_ids and chosen.filtered:
        raise UsageError("give ids, or options that choose, not both")
    ids = list(dict.fromkeys(ids_from(chosen.job_ids))) if chosen.job_ids else []
    with Connection(settings) as connection:
        if yes:
            count, more = _repeat(connection, what, chosen, ids), False
        else:
            count, more = _dry_run(connection, what, chosen, ids)
    if settings.json:
        # The contract writes numbers of 64 bits as strings.
        output.print_json({what.done: str(count), "more": more, "dryRun": not yes})
        return ExitCode.OK
    _tell(what, chosen, count, more, yes)
    if ids and count < len(ids):
        missing = len(ids) - count
        output.say(f"{missing} of the ids are no dead letters of it")
        return ExitCode.REFUSED if yes else ExitCode.OK
    return ExitCode.OK


def _tell(what: Act, chosen: Chosen, count: int, more: bool, yes: bool) -> None:
    letters = "dead letter" if count == 1 else "dead letters"
    if yes:
        print(f"{grouped(count)} {letters} of {chosen.queue} {what.done}")
        return
    least = "at least " if more else ""
    print(f"would {what.name} {least}{grouped(count)} {letters} of {chosen.queue}")
    if count:
        output.say("nothing is done yet; add --yes to do it")


def _dry_run(
    connection: Connection, what: Act, chosen: Chosen, ids: Sequence[str]
) -> tuple[int, bool]:
    if ids:
        parts = _parts(ids)
        return sum(
            _call(connection, what, chosen, part, CALL_MAX, True)[0] for part in parts
        ), False
    most = min(chosen.limit or CALL_MAX, CALL_MAX)
    count, more = _call(connection, what, chosen, None, most, True)
    if chosen.limit is not None and chosen.limit <= CALL_MAX:
        return count, False
    if more and not chosen.filtered:
        # One call counts to 10 000; without a filter the depth knows the number.
        request = pb.GetDepthRequest(queue=chosen.queue)
        dead = connection.call(lambda stubs: stubs.queues.GetDepth, request).depth.dead
        return min(dead, chosen.limit or dead), False
    return count, more


def _repeat(connection: Connection, what: Act, chosen: Chosen, ids: Sequence[str]) -> int:
    """All of them, in as many calls as it takes."""
    if ids:
        parts = _parts(ids)
        return sum(_call(connection, what, chosen, part, CALL_MAX, False)[0] for part in parts)
    shown = progress(f"dead letters {what.done}")
    total = 0
    try:
        while chosen.limit is None or total < chosen.limit:
            left = CALL_MAX if chosen.limit is None else min(CALL_MAX, chosen.limit - total)
            count, more = _call(connection, what, chosen, None, left, False)
            total += count
            shown.show(total)
            if not more or not count:
                break
    finally:
        shown.close()
    return total


def _parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[i : i + CALL_MAX] for i in range(0, len(ids), CALL_MAX)]


def _call(
    connection: Connection,
    what: Act,
    chosen: Chosen,
    ids: Sequence[str] | None,
    most: int,
    dry_run: bool,
) -> tuple[int, bool]:
    request = what.request(queue=chosen.queue, max_jobs=most, dry_run=dry_run)
    if ids is not None:
        request.job_ids.extend(ids)
    else:
        request.filter.CopyFrom(chosen.filter())
    response = connection.call(what.pick, request)
    return int(getattr(response, what.done)), bool(response.more)
