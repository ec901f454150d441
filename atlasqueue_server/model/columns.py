"""Many jobs of a sort, kept in columns: thousands of them cost no object each.

    jobs     (queue, kind, a, payload 1) (queue, kind, b, payload 2) …
    columns  shared: (queue, kind)   job_ids: ab…   payloads: 1, 2, …

From the message to the parameters of a statement they stay so. Whoever asks for one of them, as for what is
refused, gets it as a NewJob or an Outcome.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Self, TypeVar, overload

from atlasqueue_server.model.jobs import NewJob, Outcome, OutcomeKind

T = TypeVar("T")
# Of an id in binary form.
JOB_ID_BYTES = 16


def id_text(id_bytes: bytes) -> str:
    """An id in canonical text form; uuid.UUID would take twice as long."""
    digits = id_bytes.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Columns(Sequence[T]):
    """Items of a sort. A slice of them is a run, in columns as they are.

    Attributes:
        job_ids: of all of them, JOB_ID_BYTES each.
    """

    __slots__ = ("job_ids",)
    job_ids: bytes

    def __len__(self) -> int:
        return len(self.job_ids) // JOB_ID_BYTES

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Self: ...
    def __getitem__(self, at: int | slice) -> T | Self:
        if isinstance(at, int):
            at = range(len(self))[at]
            return self._item(at, id_text(self._ids(at, at + 1)))
        start, stop, step = at.indices(len(self))
        if step != 1:
            raise ValueError("only a run can be cut out of columns")
        return self._run(start, stop)

    def _ids(self, start: int, stop: int) -> bytes:
        return self.job_ids[start * JOB_ID_BYTES : stop * JOB_ID_BYTES]

    @property
    @abstractmethod
    def sort(self) -> object:
        """What they have in common; equal for those that can be joined."""

    @abstractmethod
    def _item(self, at: int, job_id: str) -> T: ...

    @abstractmethod
    def _run(self, start: int, stop: int) -> Self: ...

    @classmethod
    @abstractmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All of these, which are of one sort."""


class UniformJobs(Columns[NewJob]):
    """Validated jobs to store that differ in id and payload only. Of `shared` id and payload mean nothing."""

    __slots__ = ("payloads", "shared")

    def __init__(self, shared: NewJob, job_ids: bytes, payloads: Sequence[bytes]) -> None:
        self.shared = shared
        self.job_ids = job_ids
        self.payloads = payloads

    @property
    def sort(self) -> object:
        """All but id and payload."""
        return self.shared

    def _item(self, at: int, job_id: str) -> NewJob:
        return self.shared._replace(job_id=job_id, payload=self.payloads[at])

    def _run(self, start: int, stop: int) -> UniformJobs:
        return UniformJobs(self.shared, self._ids(start, stop), self.payloads[start:stop])

    @classmethod
    def joined(cls, parts: Sequence[UniformJobs]) -> UniformJobs:
        """All of these, which are of one sort."""
        payloads = chain.from_iterable([part.payloads for part in parts])
        job_ids = b"".join([part.job_ids for part in parts])
        return UniformJobs(parts[0].shared, job_ids, list(payloads))


class CompletedJobs(Columns[Outcome]):
    """Validated completes without a result, of one queue."""

    __slots__ = ("fences", "queue")

    def __init__(self, queue: str, job_ids: bytes, fences: Sequence[int]) -> None:
        self.queue = queue
        self.job_ids = job_ids
        self.fences = fences

    @property
    def sort(self) -> object:
        """The queue."""
        return self.queue

    def _item(self, at: int, job_id: str) -> Outcome:
        return Outcome(self.queue, job_id, self.fences[at], OutcomeKind.COMPLETE)

    def _run(self, start: int, stop: int) -> CompletedJobs:
        return CompletedJobs(self.queue, self._ids(start, stop), self.fences[start:stop])

    @classmethod
    def joined(cls, parts: Sequence[CompletedJobs]) -> CompletedJobs:
        """All of these, which are of one queue."""
        fences = chain.from_iterable([part.fences for part in parts])
        job_ids = b"".join([part.job_ids for part in parts])
        return CompletedJobs(parts[0].queue, job_ids, list(fences))
