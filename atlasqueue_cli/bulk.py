"""Many lines to the server: in order, bounded, resumable.

    reader (a thread)                         sender
    line ──▶ job or refusal ──▶ buffer ──▶ batch ──▶ EnqueueBatch ──▶ settled up to line n
                                 8 MiB       2000 lines, or what is there

One batch is on its way at a time, so "lines 1 to n are settled" is a single number. A batch takes what the
buffer holds: a fast file gives full batches, a slow pipe is sent line by line. Every job has its id before it
is sent (see runs.py), so a batch whose answer was lost is sent again without harm.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from atlasqueue.batches import BATCH_BYTES, BATCH_ITEMS
from atlasqueue.errors import from_status
from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue_cli.connection import Connection

BUFFER_BYTES = 8 * 1024 * 1024
BUFFER_ITEMS = 2 * BATCH_ITEMS


@dataclass(frozen=True, slots=True)
class Judged:
    """A line that was read: a job, or what is wrong with it."""

    line: int
    job: job_pb2.NewJob | None
    problem: str
    read_bytes: int

    @property
    def size(self) -> int:
        """What it takes of a message."""
        return self.job.ByteSize() + 8 if self.job is not None else 64


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that did not become a job."""

    line: int
    code: int
    reason: str
    message: str


@dataclass
class Tally:
    """How far a run has come. Every line up to `settled` is committed or refused."""

    settled: int = 0
    committed: int = 0
    refused: int = 0
    read_bytes: int = 0


class Buffer:
    """What was read and not yet sent; the reader waits while it is full."""

    def __init__(self, items: int = BUFFER_ITEMS, size: int = BUFFER_BYTES) -> None:
        self._items_max, self._size_max = items, size
        self._entries: deque[tuple[Judged, int]] = deque()
        self._size = 0
        self._ended = self._closed = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()

    def fill(self, lines: Iterable[Judged]) -> None:
        """Puts all lines in; runs in the reader's thread."""
        try:
            for judged in lines:
                if not self._put(judged):
                    return
        except BaseException as error:
            self._failure = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody takes any more: lets the reader go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, judged: Judged) -> bool:
        size = judged.size
        with self._changed:
            while not self._closed and self._is_full_for(size):
                self._changed.wait()
            self._entries.append((judged, size))
            self._size += size
            self._changed.notify_all()
            return not self._closed

    def _is_full_for(self, size: int) -> bool:
        if not self._entries:
            return False
        return len(self._entries) >= self._items_max or self._size + size > self._size_max

    def take(self) -> list[Judged]:
        """What is there, at most a batch; waits for the first line. Empty: that was all."""
        with self._changed:
            while not self._entries and not self._ended:
                # With a timeout, so that a signal is seen.
                self._changed.wait(0.5)
            if not self._entries and self._failure is not None:
                raise self._failure
            batch: list[Judged] = []
            total = 0
            while self._entries and len(batch) < BATCH_ITEMS:
                judged, size = self._entries[0]
                if batch and total + size > BATCH_BYTES:
                    break
                self._entries.popleft()
                batch.append(judged)
                total += size
            self._size -= total
            self._changed.notify_all()
            return batch


@dataclass
class Sender:
    """Sends batches and tells what became of each line, in order."""

    connection: Connection
    on_stored: Callable[[int, Any], None]
    on_refused: Callable[[Refused], None]
    on_settled: Callable[[], None]
    refused_max: int
    tally: Tally = field(default_factory=Tally)

    def send_all(self, lines: Iterable[Judged]) -> bool:
        """Sends until the lines end; False when more than `refused_max` were refused.

        Raises AtlasQueueError when the server does not answer for too long; `tally` says how far it came.
        """
        for batch in _batches(lines):
            results = iter(self._send([item.job for item in batch if item.job is not None]))
            for item in batch:
                result = next(results) if item.job is not None else None
                self._settle(item, result)
            self.on_settled()
            if self.tally.refused > self.refused_max:
                return False
        return True

    def _send(self, jobs: Sequence[job_pb2.NewJob]) -> Sequence[Any]:
        if not jobs:
            return ()
        request = job_service_pb2.EnqueueBatchRequest(jobs=jobs)
        response = self.connection.call(lambda stubs: stubs.jobs.EnqueueBatch, request)
        return list(response.results)

    def _settle(self, item: Judged, result: Any) -> None:
        if result is None:
            self._refuse(Refused(item.line, 3, "INVALID_FIELD", item.problem))
        elif result.HasField("error"):
            error = from_status(result.error)
            message = without_position(str(error))
            self._refuse(Refused(item.line, result.error.code, error.reason or "", message))
        else:
            self.tally.committed += 1
            self.on_stored(item.line, result)
        self.tally.settled = item.line
        self.tally.read_bytes += item.read_bytes

    def _refuse(self, refused: Refused) -> None:
        self.tally.refused += 1
        self.on_refused(refused)


def without_position(message: str) -> str:
    """`jobs[7].kind: must …` as `kind: must …`: the line is what the person knows."""
    parts = message.split("; ")
    return "; ".join(p.partition("].")[2] if p.startswith("jobs[") else p for p in parts)


def _batches(lines: Iterable[Judged]) -> Iterator[list[Judged]]:
    buffer = Buffer()
    threading.Thread(target=buffer.fill, args=(lines,), name="reader", daemon=True).start()
    try:
        while batch := buffer.take():
            yield batch
    finally:
        buffer.close()
