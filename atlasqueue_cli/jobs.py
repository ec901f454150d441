"""What `atlasqueue get`, `list` and `cancel` of jobs by id do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from atlasqueue.calls import Stubs
from atlasqueue.errors import AtlasQueueError
from atlasqueue.jobs import to_timestamp
from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue_cli import output, times, views
from atlasqueue_cli.connection import Connection, pages
from atlasqueue_cli.errors import ExitCode, UsageError, explain
from atlasqueue_cli.lines import lines_of, open_input
from atlasqueue_cli.options import Settings, complain

IDS_MAX = 100_000
ID_LINE_BYTES_MAX = 1000

Filtered = TypeVar("Filtered", job_service_pb2.ListJobsRequest, job_service_pb2.CancelJobsRequest)


def ids_from(arguments: Sequence[str]) -> list[str]:
    """Ids as given; `-` stands for those on standard input, one a line. Raises UsageError for none."""
    found: list[str] = []
    for argument in arguments:
        for job_id in _ids_of_input() if argument == "-" else [argument]:
            # While it is read: an input may never end.
            if len(found) == IDS_MAX:
                raise UsageError(f"more than {IDS_MAX} ids: give them in parts")
            found.append(job_id)
    if not found:
        raise UsageError("standard input has no ids: one a line is expected")
    return found


def _ids_of_input() -> Iterator[str]:
    with open_input("-") as source:
        for line in lines_of(source, ID_LINE_BYTES_MAX):
            try:
                job_id = line.text.decode().strip() if line.text is not None else ""
            except UnicodeDecodeError:
                job_id = ""
            if not job_id:
                raise UsageError(
                    f"line {line.number} of standard input is no id: one a line is expected"
                )
            yield job_id


def read_job(connection: Connection, job_id: str, queue: str) -> job_pb2.Job:
    """Reads a job."""
    request = job_service_pb2.GetJobRequest(queue=queue, job_id=job_id)
    response = connection.call(lambda stubs: stubs.jobs.GetJob, request)
    job: job_pb2.Job = response.job
    return job


def get(settings: Settings, job_id: str, queue: str, only: str | None) -> None:
    """Shows a job, or bytes of it."""
    with Connection(settings) as connection:
        job = read_job(connection, job_id, queue)
    if only is not None:
        output.print_bytes(getattr(job, only))
    elif settings.json:
        output.print_json(job)
    else:
        output.print_card(views.job_card(job))


@dataclass(frozen=True)
class Wanted:
    """Which jobs of a queue to list or to cancel."""

    queue: str
    state: str | None
    kind: str
    created_after: str | None
    created_before: str | None

    @property
    def narrowed(self) -> bool:
        """Something beside the queue narrows it down."""
        return bool(self.state or self.kind or self.created_after or self.created_before)

    def fill(self, request: Filtered) -> Filtered:
        """Writes it into a request and returns that. Raises UsageError."""
        request.queue, request.kind = self.queue, self.kind
        if self.state is not None:
            request.state = job_pb2.JobState.Value(f"JOB_STATE_{self.state.upper()}")
        for name in ("created_after", "created_before"):
            text = getattr(self, name)
            if text is not None:
                time = times.moment(text, f"--{name.replace('_', '-')}")
                getattr(request, name).CopyFrom(to_timestamp(time))
        return request


def list_jobs(settings: Settings, wanted: Wanted, limit: int | None, page_token: str) -> None:
    """Lists jobs."""
    request = wanted.fill(job_service_pb2.ListJobsRequest(page_token=page_token))
    print_pages(
        settings,
        request,
        (lambda stubs: stubs.jobs.ListJobs, "jobs"),
        (views.JOB_HEADER, views.job_row),
        limit,
    )


def print_pages(
    settings: Settings,
    request: Any,
    source: tuple[Callable[[Stubs], Any], str],
    view: tuple[Sequence[str], Callable[[Any], Sequence[Any]]],
    limit: int | None,
) -> None:
    """Prints pages as they come; on standard error says how to go on if there is more."""
    pick, items = source
    header, row = view
    token, count = "", 0
    with Connection(settings) as connection:
        for found, token in pages(connection, pick, request, items, limit):
            if settings.json:
                for item in found:
                    output.print_json(item)
            elif found or not (count or token):
                output.print_table(header, [row(item) for item in found])
            count += len(found)
            sys.stdout.flush()
    if token:
        output.say(f"{count} shown, there are more: --all, --limit, or --page-token {token}")


def cancel(settings: Settings, job_ids: Sequence[str], queue: str) -> int:
    """Cancels jobs, one after the other; goes on after one that is refused."""
    code = ExitCode.OK
    with Connection(settings) as connection:
        for job_id in job_ids:
            request = job_service_pb2.CancelJobRequest(queue=queue, job_id=job_id)
            try:
                response = connection.call(lambda stubs: stubs.jobs.CancelJob, request)
            except AtlasQueueError as error:
                known = explain(error, connection.servers)
                if known.code is ExitCode.UNAVAILABLE:
                    raise
                complain(known.message, known.hint)
                code = known.code
                continue
            if settings.json:
                output.print_json({"jobId": job_id} | output.as_dict(response))
            else:
                leased = response.state == job_pb2.JOB_STATE_LEASED
                print(job_id, "is asked to stop" if leased else views.state_name(response.state))
    return code
