"""What `atlasqueue cancel` does by filter: first tells, with --yes does it, page after page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from atlasqueue.v1 import job_service_pb2
from atlasqueue_cli import output
from atlasqueue_cli.connection import Connection
from atlasqueue_cli.errors import ExitCode
from atlasqueue_cli.jobs import Wanted
from atlasqueue_cli.options import Settings
from atlasqueue_cli.progress import grouped, progress


@dataclass
class Tally:
    """How many jobs so far: cancelled, and running ones that are asked to stop."""

    cancelled: int = 0
    requested: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.cancelled + self.requested


def cancel_many(settings: Settings, wanted: Wanted, yes: bool) -> int:
    """Cancels the jobs that fit; without `yes` only tells which. Raises UsageError."""
    request = wanted.fill(job_service_pb2.CancelJobsRequest(dry_run=not yes))
    tally = Tally()
    shown = progress("jobs cancelled" if yes else "jobs found")
    try:
        with Connection(settings) as connection:
            for page in _pages(connection, request):
                tally.cancelled += len(page.cancelled_job_ids)
                tally.requested += len(page.requested_job_ids)
                shown.show(tally.total)
                if settings.json:
                    _print_lines(page, dry_run=not yes)
    except BaseException:
        if yes and tally.total:
            output.say(f"{_done(tally, wanted.queue)} so far; the same command goes on")
        raise
    finally:
        shown.close()
    if not settings.json:
        _tell(tally, wanted.queue, yes)
    return ExitCode.OK


def _pages(
    connection: Connection, request: job_service_pb2.CancelJobsRequest
) -> Iterator[job_service_pb2.CancelJobsResponse]:
    while True:
        response = connection.call(lambda stubs: stubs.jobs.CancelJobs, request)
        yield response
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


def _print_lines(page: job_service_pb2.CancelJobsResponse, *, dry_run: bool) -> None:
    for job_id in page.cancelled_job_ids:
        output.print_json({"jobId": job_id, "state": "JOB_STATE_CANCELLED", "dryRun": dry_run})
    for job_id in page.requested_job_ids:
        output.print_json({"jobId": job_id, "state": "JOB_STATE_LEASED", "dryRun": dry_run})
    sys.stdout.flush()


def _tell(tally: Tally, queue: str, yes: bool) -> None:
    if yes:
        print(_done(tally, queue))
        return
    running = f" and ask {_jobs(tally.requested, 'running ')} to stop" if tally.requested else ""
    print(f"would cancel {_jobs(tally.cancelled)} of {queue}{running}")
    if tally.total:
        output.say("nothing is done yet; add --yes to do it")


def _done(tally: Tally, queue: str) -> str:
    running = f", {_jobs(tally.requested, 'running ')} asked to stop" if tally.requested else ""
    return f"{_jobs(tally.cancelled)} of {queue} cancelled{running}"


def _jobs(count: int, which: str = "") -> str:
    return f"{grouped(count)} {which}{'job' if count == 1 else 'jobs'}"
