"""Calls that wait at the same moment share one transaction.

    submit ──▶ pending ──▶ flight (≤ rows_max rows) ──▶ commit ──▶ every caller's future
    submit ──▶    │
                  └─ while a flight is out, calls gather for the next

A flight leaves at once when none is out, so an idle server adds no latency, and a busy one batches by
itself: the slower the commit, the larger the next flight. Another leaves beside it only for a large batch:
small ones cost the server more than they gain. Nobody waits long for a flight that waits for a lock: once it
is late, the next one leaves as if it were not there. And the more calls have shared a flight, the longer the next
one waits for others: up to five times as long as the flight was out, since whoever has called again and again will
call again. A caller that goes away does not take its rows back: the flight is shared, and what it stored is
stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from atlasqueue_server import traces
from atlasqueue_server.model.columns import Columns
from atlasqueue_server.model.errors import Overloaded, ShuttingDown

T = TypeVar("T")
R = TypeVar("R")
# What a call brought, or a part of it, and the future that it waits for.
Waiting = tuple[Sequence[T], asyncio.Future[Sequence[R]]]

ROWS_MAX = 1000
# So many rows are worth a flight of their own beside those that are out: with 250 a worker of 256 slots had one
# report out at a time, and half of the slots waited.
BESIDE_MIN = 64
# After so long a flight is late.
LATE_S = 0.1
# A flight waits for others as long as the last one was out for each so many calls that shared it …
GATHER_CALLS = 2
# … at most five times as long, and at most so long.
GATHER_FLIGHTS_MAX = 5.0
GATHER_S_MAX = 0.01
BYTES_MAX = 8 * 1024 * 1024
PENDING_ROWS_MAX = 100_000


def _joined(chunks: Sequence[Sequence[T]]) -> Sequence[T]:
    """All items of these; columns of a sort stay columns, and so does a chunk that is alone."""
    first = chunks[0]
    if len(chunks) == 1:
        return first
    if isinstance(first, Columns):
        columns = [chunk for chunk in chunks if isinstance(chunk, Columns)]
        if len(columns) == len(chunks) and all(each.sort == first.sort for each in columns):
            return first.joined(columns)
    return [item for chunk in chunks for item in chunk]


class Batcher(Generic[T, R]):
    """Gathers items of concurrent calls and hands them to `flush`, at most `flights` at a time."""

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        size: Callable[[T], int],
        flights: int = 3,
        gather_s: Callable[[], float] | None = None,
        observe: Callable[[int], None] = lambda rows: None,
        verb: str = "",
    ) -> None:
        self._flush = flush
        self._size = size
        self._gather_s = gather_s
        self._enough = asyncio.Event()
        self._shared_s = 0.0
        self._callers = 0
        self._observe = observe
        self._verb = verb
        # Only while tracing: the span of the call that each future answers.
        self._spans: dict[asyncio.Future[Sequence[R]], Any] = {}
        self._flights_max = flights
        self._out = 0
        # Of those that are out.
        self._on_time = 0
        self._pending: deque[Waiting[T, R]] = deque()
        self._pending_rows = 0
        self._flights: set[asyncio.Task[None]] = set()
        self._closed = False

    async def submit(self, items: Sequence[T]) -> Sequence[R]:
        """The flush's answer for each item, in order.

        Raises what the flush raised, Overloaded when too many rows wait, ShuttingDown after close.
        """
        self._let_in(len(items))
        if len(items) == 1:
            return await self._add(items)
        return await self._all(self._chunks(items))

    async def submit_columns(self, items: Columns[T]) -> Sequence[R]:
        """As submit; they reach the flush as columns, unless others share it that are of another sort."""
        self._let_in(len(items))
        return await self._all(
            items[start : start + ROWS_MAX] for start in range(0, len(items), ROWS_MAX)
        )

    def _let_in(self, rows: int) -> None:
        if self._closed:
            raise ShuttingDown()
        if self._pending_rows + rows > PENDING_ROWS_MAX:
            raise Overloaded(f"{self._pending_rows} rows wait for a commit; repeat with backoff")

    async def _all(self, chunks: Iterable[Sequence[T]]) -> Sequence[R]:
        futures = [self._add(chunk) for chunk in chunks]
        answers: list[R] = []
        for outcome in await asyncio.gather(*futures, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
            answers.extend(outcome)
        return answers

    def _chunks(self, items: Sequence[T]) -> Sequence[Sequence[T]]:
        chunks: list[list[T]] = []
        rows_left = bytes_left = 0
        for item in items:
            size = self._size(item)
            if rows_left < 1 or bytes_left < size:
                chunks.append([])
                rows_left, bytes_left = ROWS_MAX, BYTES_MAX
            chunks[-1].append(item)
            rows_left -= 1
            bytes_left -= size
        return chunks

    def _add(self, chunk: Sequence[T]) -> asyncio.Future[Sequence[R]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[R]] = loop.create_future()
        self._pending.append((chunk, future))
        self._pending_rows += len(chunk)
        if self._gathered():
            self._enough.set()
        if (span := traces.recording()) is not None:
            self._spans[future] = span
        self._depart()
        return future

    def _depart(self) -> None:
        if self._out == self._flights_max or not self._worth_a_flight(self._on_time):
            return
        self._out += 1
        self._on_time += 1
        flight = asyncio.get_running_loop().create_task(self._fly())
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)

    def _worth_a_flight(self, others: int) -> bool:
        return self._pending_rows >= (BESIDE_MIN if others else 1)

    async def _fly(self) -> None:
        try:
            while self._worth_a_flight(self._on_time - 1):
                await self._gather()
                if self._pending:
                    with self._noticed_when_late():
                        await self._flush_once(self._take())
        finally:
            self._out -= 1
            self._on_time -= 1

    @contextlib.contextmanager
    def _noticed_when_late(self) -> Iterator[None]:
        late = False

        def notice() -> None:
            nonlocal late
            late = True
            self._on_time -= 1
            self._depart()

        timer = asyncio.get_running_loop().call_later(LATE_S, notice)
        try:
            yield
        finally:
            timer.cancel()
            self._on_time += late

    async def _gather(self) -> None:
        gather_s = self._gather_s() if self._gather_s else self._shared_s
        if gather_s and not self._gathered():
            self._enough.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(gather_s):
                    await self._enough.wait()

    def _gathered(self) -> bool:
        all_came = self._gather_s is None and len(self._pending) >= self._callers
        return all_came or self._pending_rows >= BESIDE_MIN

    def _take(self) -> list[Waiting[T, R]]:
        taken = [self._pending.popleft()]
        rows = len(taken[0][0])
        while self._pending and rows + len(self._pending[0][0]) <= ROWS_MAX:
            taken.append(self._pending.popleft())
            rows += len(taken[-1][0])
        self._pending_rows -= rows
        return taken

    async def _flush_once(self, calls: Sequence[Waiting[T, R]]) -> None:
        items = _joined([chunk for chunk, _ in calls])
        self._observe(len(items))
        left_at = time.monotonic()
        try:
            with self._traced(calls, len(items)):
                answers = await self._flush(items)
        except asyncio.CancelledError:
            _fail(calls, ShuttingDown())
            raise
        except Exception as error:
            _fail(calls, error)
            return
        start = 0
        for chunk, future in calls:
            if not future.done():
                future.set_result(answers[start : start + len(chunk)])
            start += len(chunk)
        flights = min((len(calls) - 1) / GATHER_CALLS, GATHER_FLIGHTS_MAX)
        self._shared_s = min(flights * (time.monotonic() - left_at), GATHER_S_MAX)
        # When as many have come again, nobody is left to wait for.
        self._callers = len(calls) + len(self._pending)

    def _traced(self, calls: Sequence[Waiting[T, R]], rows: int) -> AbstractContextManager[Any]:
        spans = (
            [s for _, future in calls if (s := self._spans.pop(future, None))]
            if self._spans
            else ()
        )
        return traces.commit(self._verb, rows, spans)

    async def close(self) -> None:
        """Waits for what was handed in; later calls raise ShuttingDown."""
        self._closed = True
        while self._flights:
            await asyncio.gather(*self._flights, return_exceptions=True)


def _fail(calls: Sequence[Waiting[T, R]], error: Exception) -> None:
    for _, future in calls:
        if not future.done():
            future.set_exception(error)
            # A caller that went away never looks at its future; that is no error of its own.
            future.exception()
