"""The registry of handlers: kinds are strings, and nothing is ever imported by a name from the wire."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from atlasqueue_worker.job import JobContext

Handler = Callable[[JobContext], Any] | Callable[[JobContext], Awaitable[Any]]
# What a middleware awaits for the rest: the next middleware or the handler. It returns the handler's value
# and raises what the handler raises.
Next = Callable[[JobContext], Awaitable[Any]]
Middleware = Callable[[JobContext, Next], Awaitable[Any]]
# Puts something around a handler: measures it, traces it. The second argument: whether it is async.
Dress = Callable[[Handler, bool], Handler]
H = TypeVar("H", bound=Callable[..., Any])
DEFAULT_QUEUE = "default"
KILL_AFTER_S = 5.0
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class AppNotFound(ValueError):
    """MODULE:APP names no App with handlers; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A handler, how it is called and the queue that it serves."""

    kind: str
    queue: str
    handler: Handler
    is_async: bool
    # In a process of its own, killed so many seconds after it was asked to stop.
    subprocess: bool = False
    kill_after: float = KILL_AFTER_S


class App:
    """Handlers by kind, and middleware around them.

    Args:
        name: MODULE:APP, where a subprocess finds this object; `atlasqueue-worker run` sets it. Needed only
            for handlers that are registered with `subprocess=True` and run by a Worker of your own.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.registrations: dict[str, Registration] = {}
        self.middlewares: list[Middleware] = []

    def job(
        self,
        kind: str,
        *,
        queue: str = DEFAULT_QUEUE,
        subprocess: bool = False,
        kill_after: float = KILL_AFTER_S,
    ) -> Callable[[H], H]:
        """Registers the function below as the handler of `kind`; async, or plain (run in a thread).

        Args:
            kind: as the producers name it.
            queue: which the worker then serves; "default" unless named.
            subprocess: run each job in a fresh process of its own: for handlers that crash, hold the GIL or
                leak. It costs about the time of starting Python and importing your module, each time.
            kill_after: seconds between asking such a process to stop and killing it.

        Raises ValueError when the kind has a handler already, kind or queue is no name, kill_after is below
        0, or the system has no POSIX processes; TypeError when it is used without a kind, or the handler
        cannot be called with a job alone.
        """
        if callable(kind):
            raise TypeError('a handler is registered with its kind: @app.job("resize")')
        for what, name in (("kind", kind), ("queue", queue)):
            if not NAME.fullmatch(name):
                raise ValueError(f"{what} {name!r} must match {NAME.pattern}")
        if not kill_after >= 0:
            raise ValueError(f"kill_after must be 0 or more seconds, not {kill_after}")
        if subprocess and sys.platform == "win32":
            raise ValueError("subprocess=True needs POSIX: signals and process groups")

        def register(handler: H) -> H:
            if kind in self.registrations:
                raise ValueError(f"kind {kind!r} has a handler already")
            if not _takes_a_job(handler):
                raise TypeError(
                    f"the handler of kind {kind!r} must take the job, and need nothing else: def handler(job)"
                )
            is_async = any(map(inspect.iscoroutinefunction, (handler, type(handler).__call__)))
            self.registrations[kind] = Registration(
                kind, queue, handler, is_async, subprocess, kill_after
            )
            return handler

        return register

    def middleware(self, middleware: Middleware) -> Middleware:
        """Puts an async function around every handler; the first one registered is the outermost.

        >>> @app.middleware
        ... async def timed(job: JobContext, run: Next) -> object:
        ...     started = time.monotonic()
        ...     try:
        ...         return await run(job)
        ...     finally:
        ...         print(job.kind, time.monotonic() - started)

        It runs in the worker's process and event loop, also around plain handlers and subprocesses. What it
        returns or raises is the outcome. Raises TypeError unless the function is async.
        """
        if not inspect.iscoroutinefunction(middleware):
            raise TypeError("a middleware must be an async function: async def name(job, run)")
        self.middlewares.append(middleware)
        return middleware

    @property
    def queues(self) -> list[str]:
        """The queues of the registered handlers."""
        return sorted({registration.queue for registration in self.registrations.values()})


def _takes_a_job(handler: Callable[..., Any]) -> bool:
    try:
        inspect.signature(handler).bind(object())
    except TypeError:
        return False
    except ValueError:
        # Some that are written in C do not tell what they take.
        return True
    return True


def load_app(name: str) -> App:
    """The App that MODULE:APP names, from the working directory or the path. Raises AppNotFound.

    What the module itself raises while it is imported is passed on.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise AppNotFound(f"{name!r} must be MODULE:APP, as in my_package.jobs:app")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise AppNotFound(f"there is no module {error.name}: run from its directory") from error
        raise AppNotFound(f"{module_name} imports {error.name}, which is not installed") from error
    app = getattr(module, attribute, None)
    if not isinstance(app, App):
        raise AppNotFound(f"{module_name} has no App named {attribute}")
    if not app.registrations:
        raise AppNotFound(f"{name} has no handlers: register some with @app.job(...)")
    app.name = name
    return app
