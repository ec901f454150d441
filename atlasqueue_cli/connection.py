"""Calls on a list of servers, as the SDK makes them, which tell when nobody answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from atlasqueue.calls import Calls, Stubs
from atlasqueue.tracing import Metadata
from atlasqueue_cli.errors import UsageError
from atlasqueue_cli.options import Settings
from atlasqueue_cli.output import say

# An answer that comes back within so long needs no word.
QUIET_S = 1.0


class Connection(Calls):
    """The SDK's calls. `on_failure` is called after each try that nobody answered."""

    def __init__(self, settings: Settings, *, retry_for: float = 5.0) -> None:
        settings = settings.patience(retry_for)
        assert settings.retry_for is not None
        tls, timeout = settings.tls_files(), settings.timeout
        try:
            super().__init__(
                settings.servers, tls=tls, timeout=timeout, retry_for=settings.retry_for
            )
        except ValueError as error:
            raise UsageError(f"--server: {error}") from None
        self.patience = settings.retry_for
        self.servers = settings.servers
        self._failing_since = 0.0
        self._told = False
        self.on_failure: Callable[[], None] = self._tell

    def __enter__(self) -> Connection:
        """The connection itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the channels."""
        self.close()

    def call(
        self,
        pick: Callable[[Stubs], Any],
        request: Any,
        metadata: Metadata | None = None,
        retry_for_max: float = math.inf,
    ) -> Any:
        """As the SDK's call; a success ends the outage that was told of."""
        self._failing_since = 0.0
        response = super().call(pick, request, metadata, retry_for_max)
        self._told = False
        return response

    def leave(self, stubs: Stubs) -> None:
        """Called by the SDK after each try that nobody answered."""
        self.on_failure()
        super().leave(stubs)

    def _tell(self) -> None:
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if not self._told and now - self._failing_since >= QUIET_S:
            self._told = True
            say(f"no answer from {self.servers}; trying for {self.patience:g} s")


def pages(
    connection: Connection,
    pick: Callable[[Stubs], Any],
    request: Any,
    items: str,
    limit: int | None,
) -> Iterator[tuple[list[Any], str]]:
    """Pages of a list, each with the token of the next one; at most `limit` items in all."""
    left = limit
    while True:
        if left is not None:
            request.page_size = min(left, 1000)
        response = connection.call(pick, request)
        found = list(getattr(response, items))
        left = None if left is None else left - len(found)
        token = response.next_page_token
        yield found, token
        if not token or (left is not None and left <= 0):
            return
        request.page_token = token
