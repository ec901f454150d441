"""Exit codes, and what each error means to the person who typed the command."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process ends with. Documented in docs/cli.md."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    DEAD = 5
    CANCELLED = 6
    NOT_SETTLED = 7
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


class CliError(Exception):
    """Ends the command with `code`; `hint` says what to do."""

    def __init__(self, message: str, *, code: ExitCode = ExitCode.REFUSED, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


class UsageError(CliError):
    """What was typed cannot be meant; nothing was sent."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, code=ExitCode.USAGE, hint=hint)


class Terminated(BaseException):
    """SIGTERM came; like KeyboardInterrupt it passes every `except Exception`."""


@dataclass(frozen=True)
class Explanation:
    """The line, the exit code and the hint for an error."""

    message: str
    code: ExitCode
    hint: str = ""


def explain(error: Exception, servers: str) -> Explanation:
    """What to tell of an error of the SDK. `servers` are the addresses that were tried."""
    if isinstance(error, CliError):
        return Explanation(str(error), error.code, error.hint)
    for kind, code, message, hint in _known(str(error), servers):
        if isinstance(error, kind):
            return Explanation(message, code, hint)
    return Explanation(str(error), ExitCode.REFUSED)


def _known(text: str, servers: str) -> list[tuple[type[Exception], ExitCode, str, str]]:
    """(class of errors, exit code, line, hint) for errors that say `text`; the first that fits counts."""
    from atlasqueue import errors as e

    dead = "redrive it with `atlasqueue dead-letters redrive`, or purge it"
    return [
        (e.InvalidField, ExitCode.USAGE, text, ""),
        (
            e.JobNotFound,
            ExitCode.NOT_FOUND,
            text,
            "`atlasqueue list QUEUE` shows what there is",
        ),
        (
            e.QueueNotFound,
            ExitCode.NOT_FOUND,
            text,
            "a queue comes into being with its first job; `atlasqueue queues list` names them",
        ),
        (e.JobIdAmbiguous, ExitCode.REFUSED, text, "name the queue with --queue"),
        (e.JobIdConflict, ExitCode.REFUSED, text, "leave --job-id out to have a new id made"),
        (e.JobFinal, ExitCode.REFUSED, text, "nothing is left to cancel"),
        (e.JobDead, ExitCode.REFUSED, text, dead),
        (
            e.TooManyQueues,
            ExitCode.REFUSED,
            text,
            "use a queue that exists: `atlasqueue queues list`",
        ),
        (
            e.MessageTooLarge,
            ExitCode.REFUSED,
            text,
            "a payload has at most 1 MiB: store it elsewhere and enqueue its name",
        ),
        (
            e.DatabaseUnavailable,
            ExitCode.UNAVAILABLE,
            f"a server answers ({servers}), but its database does not: {text}",
            "look at the server's log; calls are safe to repeat",
        ),
        (
            e.ShuttingDown,
            ExitCode.UNAVAILABLE,
            f"the server is stopping: {text}",
            "try again, or name another with --server",
        ),
        (e.Overloaded, ExitCode.UNAVAILABLE, text, "try again in a moment"),
        (
            e.Unavailable,
            ExitCode.UNAVAILABLE,
            f"no server answers at {servers}: {text}",
            "is it running (`atlasqueue-server dev` starts one)? "
            "--server HOST:PORT or ATLASQUEUE_SERVER names another",
        ),
        (
            e.DeadlineExceeded,
            ExitCode.UNAVAILABLE,
            f"no answer in time from {servers}; what was asked for may have been done",
            "look with `atlasqueue get` or `atlasqueue queues show`, or try again",
        ),
        (
            e.InternalError,
            ExitCode.REFUSED,
            f"the server failed: {text}",
            "its log holds the details; please report it",
        ),
    ]
