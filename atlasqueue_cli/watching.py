"""Following jobs: what `atlasqueue wait` and `atlasqueue tail` do."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from atlasqueue.errors import AtlasQueueError, DeadlineExceeded
from atlasqueue.v1 import job_pb2
from atlasqueue_cli import output
from atlasqueue_cli.connection import Connection
from atlasqueue_cli.errors import CliError, ExitCode, UsageError, explain
from atlasqueue_cli.options import Settings, complain
from atlasqueue_cli.views import error_text, job_note, reason_name, state_name

TAILED_MAX = 200
SECOND = timedelta(seconds=1)


class NotSettled(CliError):
    """A job has not settled within the time that was given."""

    def __init__(self, job_id: str, limit: timedelta) -> None:
        super().__init__(
            f"job {job_id} has not settled within {limit / SECOND:g} s",
            code=ExitCode.NOT_SETTLED,
            hint=f"it goes on; `atlasqueue get {job_id}` shows where it stands",
        )


def settle(
    connection: Connection,
    job_id: str,
    queue_name: str,
    limit: timedelta | None,
    end_at: float | None,
) -> job_pb2.Job:
    """The job once it has settled. Raises NotSettled."""
    last: job_pb2.Job | None = None
    try:
        left = None if end_at is None else max(0.0, end_at - time.monotonic())
        for job in connection.watch(job_id, queue_name, left):
            last = job
    except DeadlineExceeded:
        assert limit is not None
        raise NotSettled(job_id, limit) from None
    assert last is not None
    return last


def wait_for_one(settings: Settings, job_id: str, queue_name: str, limit: timedelta | None) -> int:
    """Waits for a job; prints its result, or what became of it."""
    with Connection(settings) as connection:
        job = settle(connection, job_id, queue_name, limit, _end_at(limit))
    if settings.json:
        output.print_json(job)
    elif job.state == job_pb2.JOB_STATE_SUCCEEDED:
        output.print_bytes(job.result)
    return _judge(job)


def wait_for_all(
    settings: Settings, job_ids: Sequence[str], queue_name: str, limit: timedelta | None
) -> int:
    """Waits for jobs, one after the other; a line each. The code is that of the worst."""
    code, end_at = ExitCode.OK, _end_at(limit)
    with Connection(settings) as connection:
        for job_id in job_ids:
            try:
                job = settle(connection, job_id, queue_name, limit, end_at)
            except (CliError, AtlasQueueError) as error:
                known = explain(error, connection.servers)
                if known.code not in (ExitCode.NOT_FOUND, ExitCode.NOT_SETTLED):
                    raise
                complain(known.message)
                code = _worse(code, known.code)
                continue
            if settings.json:
                output.print_json(job)
            else:
                print(job.job_id, state_name(job.state), flush=True)
            code = _worse(code, _judge(job))
    return code


# The worst first: what needs a person's look outweighs what only takes longer.
WORST = (ExitCode.DEAD, ExitCode.NOT_FOUND, ExitCode.NOT_SETTLED, ExitCode.CANCELLED, ExitCode.OK)


def _worse(one: ExitCode, other: ExitCode) -> ExitCode:
    return min(one, other, key=WORST.index)


def _end_at(limit: timedelta | None) -> float | None:
    return None if limit is None else time.monotonic() + limit / SECOND


def _judge(job: job_pb2.Job) -> ExitCode:
    if job.state == job_pb2.JOB_STATE_DEAD:
        why = reason_name(job.dead_letter_reason)
        last = f": {error_text(job.failures[-1].error)}" if job.failures else ""
        complain(
            f"job {job.job_id} is a dead letter ({why}){last}",
            f"`atlasqueue dead-letters show {job.job_id}` tells more; "
            f"`atlasqueue dead-letters redrive {job.queue} {job.job_id}` runs it again",
        )
        return ExitCode.DEAD
    if job.state == job_pb2.JOB_STATE_CANCELLED:
        complain(f"job {job.job_id} was cancelled")
        return ExitCode.CANCELLED
    return ExitCode.OK


def tail(settings: Settings, job_ids: Sequence[str], queue_name: str) -> int:
    """Prints each change of the jobs as it is seen, until all have settled."""
    if len(job_ids) > TAILED_MAX:
        raise UsageError(f"{len(job_ids)} jobs; tail follows at most {TAILED_MAX} at once")
    seen: queue.SimpleQueue[job_pb2.Job | Exception | None] = queue.SimpleQueue()
    code = ExitCode.OK
    with Connection(settings) as connection:

        def follow(job_id: str) -> None:
            try:
                for job in connection.watch(job_id, queue_name, None):
                    seen.put(job)
                seen.put(None)
            except Exception as error:
                seen.put(error)

        for job_id in dict.fromkeys(job_ids):
            threading.Thread(target=follow, args=(job_id,), daemon=True).start()
        running = len(dict.fromkeys(job_ids))
        while running:
            event = seen.get()
            if isinstance(event, job_pb2.Job):
                _print_change(settings, event)
                continue
            running -= 1
            if isinstance(event, CliError | AtlasQueueError):
                known = explain(event, connection.servers)
                complain(known.message, known.hint)
                code = known.code
            elif event is not None:
                raise event
    return code


def _print_change(settings: Settings, job: job_pb2.Job) -> None:
    if settings.json:
        output.print_json(job)
    else:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        note = job_note(job)
        attempt = f"attempt {job.attempt + 1}" if job.state == job_pb2.JOB_STATE_LEASED else ""
        text = ", ".join(part for part in (attempt, note) if part)
        print(f"{now}  {job.job_id}  {state_name(job.state):9}  {text}".rstrip(), flush=True)
    sys.stdout.flush()
