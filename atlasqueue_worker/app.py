"""The registry of handlers: kinds are strings, and nothing is ever imported by a name from the wire."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from atlasqueue_worker.job import JobContext

Handler = Callable[[JobContext], Any] | Callable[[JobContext], Awaitable[Any]]
H = TypeVar("H", bound=Callable[..., Any])
DEFAULT_QUEUE = "default"
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Registration:
    """A handler, how it is called and the queue that it serves."""

    kind: str
    queue: str
    handler: Handler
    is_async: bool


class App:
    """Handlers by kind."""

    def __init__(self) -> None:
        self.registrations: dict[str, Registration] = {}

    def job(self, kind: str, *, queue: str = DEFAULT_QUEUE) -> Callable[[H], H]:
        """Registers the function below as the handler of `kind`; async, or plain (run in a thread).

        Raises ValueError when the kind has a handler already, or kind or queue is no name.
        """
        for what, name in (("kind", kind), ("queue", queue)):
            if not NAME.fullmatch(name):
                raise ValueError(f"{what} {name!r} must match {NAME.pattern}")

        def register(handler: H) -> H:
            if kind in self.registrations:
                raise ValueError(f"kind {kind!r} has a handler already")
            is_async = inspect.iscoroutinefunction(handler)
            self.registrations[kind] = Registration(kind, queue, handler, is_async)
            return handler

        return register

    def dressed(self, dress: Callable[[Handler, bool], Handler]) -> App:
        """The same app with every handler replaced by `dress(handler, is_async)`."""
        dressed = App()
        dressed.registrations = {
            kind: replace(each, handler=dress(each.handler, each.is_async))
            for kind, each in self.registrations.items()
        }
        return dressed

    @property
    def queues(self) -> list[str]:
        """The queues of the registered handlers."""
        return sorted({registration.queue for registration in self.registrations.values()})
