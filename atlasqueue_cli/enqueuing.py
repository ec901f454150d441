"""What `atlasqueue enqueue` does."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, NoReturn

from atlasqueue import new_job_id
from atlasqueue.errors import AtlasQueueError
from atlasqueue.jobs import to_duration, to_timestamp
from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue_cli import output, times
from atlasqueue_cli.bulk import Judged, Refused, Sender
from atlasqueue_cli.connection import Connection
from atlasqueue_cli.errors import CliError, ExitCode, Terminated, UsageError, explain
from atlasqueue_cli.lines import BadLine, lines_of, open_input, read_payload
from atlasqueue_cli.newjobs import checked, job_from_line, job_from_payload
from atlasqueue_cli.options import Settings
from atlasqueue_cli.progress import Progress, grouped, progress
from atlasqueue_cli.runs import Run

# How long a run of lines waits for a server that went away.
LINES_RETRY_FOR_S = 120.0


@dataclass(frozen=True)
class Flags:
    """What the flags say of a job, or of the lines that do not say it."""

    priority: int | None
    headers: list[str]
    run_at: str | None
    run_in: str | None
    deadline: str | None
    max_attempts: int | None
    queue: str | None = None
    kind: str | None = None

    def job(self, now: datetime) -> job_pb2.NewJob:
        """As a job without queue, kind and payload. Raises UsageError."""
        job = job_pb2.NewJob(queue=self.queue or "", kind=self.kind or "")
        if self.priority is not None:
            job.priority = _sendable(self.priority, "--priority", "1 to 5")
        for header in self.headers:
            name, equals, value = header.partition("=")
            if not equals:
                raise UsageError(f"--header: {header!r} must be NAME=VALUE")
            job.headers[name] = value
        if self.run_at is not None and self.run_in is not None:
            raise UsageError("--run-at and --in exclude each other")
        if self.run_at is not None:
            job.run_at.CopyFrom(to_timestamp(times.moment(self.run_at, "--run-at")))
        if self.run_in is not None:
            try:
                job.run_at.CopyFrom(to_timestamp(now + times.duration(self.run_in, "--in")))
            except OverflowError:
                raise UsageError(f"--in: {self.run_in!r} is too long") from None
        if self.deadline is not None:
            job.deadline.CopyFrom(to_duration(times.duration(self.deadline, "--deadline")))
        if self.max_attempts is not None:
            attempts = _sendable(self.max_attempts, "--max-attempts", "1 to 1000")
            job.retry_policy.max_attempts = attempts
        return job


def _sendable(value: int, option: str, bound: str) -> int:
    # What fits into the message goes to the server, which knows its bounds.
    if not 0 <= value < 2**31:
        raise UsageError(f"{option} must be {bound}")
    return value


@dataclass(frozen=True)
class One:
    """A job on the command line."""

    queue: str
    kind: str | None
    payload: str
    job_id: str | None


@dataclass(frozen=True)
class Bulk:
    """How lines are to be read."""

    source: str
    payloads: bool
    resume: str | None
    refused_max: int
    quiet: bool


def refuse_beside_lines(kind: str | None, job_id: str | None, wait: bool) -> None:
    """Raises UsageError for what means nothing with JSON lines."""
    if kind is not None:
        raise UsageError(
            f"{kind!r} after - or @FILE: lines have their queue and kind themselves",
            "give --queue and --kind for lines that do not say; "
            "one job with its payload from a file is: atlasqueue enqueue QUEUE KIND @FILE",
        )
    if job_id is not None:
        raise UsageError("--job-id names one job; for lines write jobId in each line")
    if wait:
        raise UsageError("--wait waits for one job", "`atlasqueue wait -` takes ids from a pipe")


def refuse_beside_one(
    queue: str | None, kind: str | None, resume: str | None, payloads: bool
) -> None:
    """Raises UsageError for what means nothing with one job."""
    given = {"--queue": queue, "--kind": kind, "--resume": resume, "--each": payloads or None}
    for name, value in given.items():
        if value is not None:
            raise UsageError(
                f"{name} is for JSON lines", "one job is: atlasqueue enqueue QUEUE KIND [PAYLOAD]"
            )


def enqueue_one(settings: Settings, flags: Flags, one: One) -> int:
    """Stores a job and prints its id."""
    with Connection(settings) as connection:
        response = _store(connection, flags, one)
    if settings.json:
        output.print_json(response)
    else:
        print(response.job_id)
    return ExitCode.OK


def enqueue_and_wait(settings: Settings, flags: Flags, one: One, timeout: str | None) -> int:
    """Stores a job and waits for it; prints its result."""
    from atlasqueue_cli.watching import wait_for_one

    limit = None if timeout is None else times.duration(timeout, "--wait-timeout")
    with Connection(settings) as connection:
        response = _store(connection, flags, one)
    if not settings.json:
        output.say(f"job {response.job_id}")
    return wait_for_one(settings, response.job_id, response.queue, limit)


def _store(connection: Connection, flags: Flags, one: One) -> job_service_pb2.EnqueueResponse:
    if one.kind is None:
        raise UsageError(
            "a job needs a kind: atlasqueue enqueue QUEUE KIND [PAYLOAD]",
            "for JSON lines the first argument is - or @FILE",
        )
    job = flags.job(datetime.now(UTC))
    job.queue, job.kind = one.queue, one.kind
    job.payload = read_payload(one.payload)
    job.job_id = one.job_id or new_job_id()
    try:
        checked(job)
    except BadLine as error:
        raise UsageError(f"this {error}") from None
    request = job_service_pb2.EnqueueRequest(job=job)
    response: job_service_pb2.EnqueueResponse = connection.call(
        lambda stubs: stubs.jobs.Enqueue, request
    )
    return response


def enqueue_lines(settings: Settings, flags: Flags, bulk: Bulk) -> int:
    """Stores a job for each line; says how to go on if it cannot finish."""
    run, first = _run_of(bulk.resume)
    defaults = flags.job(run.started_at)
    with Connection(settings, retry_for=LINES_RETRY_FOR_S) as connection:
        # Closed by its reader: closing it here would wait for a read that may never end.
        source = open_input(bulk.source)
        total = os.fstat(source.fileno()).st_size if bulk.source != "-" else 0
        if bulk.source == "-" and sys.stdin.isatty():
            output.say("a job a line, as JSON; end with Ctrl-D")
        lines = _judged(source, defaults, run, first, bulk.payloads)
        return Lines(settings, bulk, run, first, total, connection).work(lines)


def _run_of(resume: str | None) -> tuple[Run, int]:
    if resume is None:
        return Run.new(), 1
    name, _, line = resume.partition(":")
    try:
        run, first = Run.parse(name), int(line or 1)
        if first < 1:
            raise ValueError("lines are numbered from 1")
        return run, first
    except ValueError:
        raise UsageError(
            f"--resume: {resume!r} is no run", "copy RUN:LINE from what the broken run printed"
        ) from None


def _judged(
    source: BinaryIO, defaults: job_pb2.NewJob, run: Run, first: int, payloads: bool
) -> Iterator[Judged]:
    make = job_from_payload if payloads else job_from_line
    with source:
        for line in lines_of(source):
            if line.number < first:
                continue
            job, problem = None, ""
            if line.text is None:
                problem = f"is {grouped(line.size)} bytes long; a line has at most 4 MiB"
            else:
                try:
                    job = make(line.text, defaults, run.job_id(line.number))
                except BadLine as error:
                    problem = str(error)
            yield Judged(line.number, job, problem, line.size)


class Lines:
    """A run over lines, and what it says."""

    def __init__(
        self,
        settings: Settings,
        bulk: Bulk,
        run: Run,
        first: int,
        total: int,
        connection: Connection,
    ) -> None:
        self._settings, self._bulk, self._run = settings, bulk, run
        self._total = total
        self._progress: Progress = progress("jobs committed", quiet=bulk.quiet)
        self._sender = Sender(
            connection, self._stored, self._refused, self._settled, bulk.refused_max
        )
        self._sender.tally.settled = first - 1
        connection.on_failure = self._outage
        self._connection = connection
        self._out = False

    def work(self, lines: Iterator[Judged]) -> int:
        """Sends all lines. Returns the exit code; raises CliError with how to go on."""
        try:
            finished = self._sender.send_all(lines)
            sys.stdout.flush()
        except AtlasQueueError as error:
            known = explain(error, self._settings.servers)
            self._broke_off(known.message, known.code)
        except OSError as error:
            # Of standard output (a closed pipe, a full disk) or of the input.
            self._broke_off(f"stopped: {error.strerror or error}", ExitCode.REFUSED)
        except KeyboardInterrupt:
            self._broke_off("stopped by Ctrl-C", ExitCode.INTERRUPTED)
        except Terminated:
            self._broke_off("stopped by SIGTERM", ExitCode.TERMINATED)
        finally:
            self._progress.close()
        if not finished:
            self._broke_off(
                f"stopped: more than {self._bulk.refused_max} lines were refused (--max-refused)",
                ExitCode.REFUSED,
            )
        return self._end()

    def _end(self) -> int:
        tally = self._sender.tally
        if not self._bulk.quiet or tally.refused:
            self._progress.say(self._counts())
        if not tally.refused:
            return ExitCode.OK
        self._progress.say(
            f"to send the refused lines, mend them where they stand and run: {self._command(None)}"
        )
        return ExitCode.REFUSED

    def _counts(self) -> str:
        tally = self._sender.tally
        refused = f", {grouped(tally.refused)} refused" if tally.refused else ""
        return f"{grouped(tally.committed)} jobs committed{refused}"

    def _broke_off(self, message: str, code: ExitCode) -> NoReturn:
        self._progress.close()
        tally = self._sender.tally
        raise CliError(
            f"{message}\n"
            f"  {self._counts()}; lines 1 to {tally.settled} are settled, "
            f"of later ones some may be stored",
            code=code,
            hint=f"feed the same lines again, none is stored twice: "
            f"{self._command(tally.settled + 1)}",
        )

    def _command(self, line: int | None) -> str:
        """The command that goes on with this run, its other flags as they were."""
        name = f"{self._run}" if line is None else f"{self._run}:{line}"
        words, skip = [], False
        for word in sys.argv[1:]:
            if not skip and word != "--resume" and not word.startswith("--resume="):
                words.append(word)
            skip = word == "--resume"
        return shlex.join(["atlasqueue", *words, "--resume", name])

    def _stored(self, line: int, result: job_service_pb2.EnqueueResult) -> None:
        if self._settings.json:
            output.print_json({"line": line, "queue": result.queue, "jobId": result.job_id})

    def _refused(self, refused: Refused) -> None:
        if self._settings.json:
            error = {"code": refused.code, "reason": refused.reason, "message": refused.message}
            output.print_json({"line": refused.line, "error": error})
        if self._sender.tally.refused <= self._bulk.refused_max + 1:
            self._progress.say(f"line {refused.line}: {output.clean(refused.message)}")

    def _settled(self) -> None:
        if self._out:
            self._out = False
            self._progress.say("a server answers again")
        tally = self._sender.tally
        share = min(1.0, tally.read_bytes / self._total) if self._total else None
        self._progress.show(tally.committed, share)

    def _outage(self) -> None:
        if not self._out:
            self._out = True
            self._progress.say(
                f"no answer from {self._connection.servers}; lines 1 to "
                f"{self._sender.tally.settled} are settled; trying for "
                f"{self._connection.patience:g} s"
            )
