"""Cuts many jobs into messages that the transport carries, in the form that costs the least.

Jobs of one call mostly differ in id and payload only. Such travel as UniformJobs: what they share once, then a column of
ids and one of payloads, so that nobody on the way makes an object of each. Few of a sort, and jobs whose id is no UUID, go
one by one, as NewJob.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter

from atlasqueue.errors import AtlasQueueError, from_status
from atlasqueue.ids import new_job_ids
from atlasqueue.jobs import NewJob, new_job_to_proto
from atlasqueue.v1 import job_pb2, job_service_pb2

# Of 4 MiB and 10 000; smaller batches share the server's work better than the largest would.
BATCH_BYTES = 3 * 1024 * 1024
BATCH_ITEMS = 2000
# Fewer jobs of a sort gain nothing.
UNIFORM_MIN = 32
# What surrounds a job that goes alone: its id, tags and lengths.
AROUND_BYTES = 64
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def batches(jobs: Iterable[NewJob]) -> Iterator[Batch]:
    """The jobs in runs, each for one message: at most BATCH_ITEMS and, unless it is a single job, BATCH_BYTES.

    Raises TypeError and ValueError for what no message can hold.
    """
    batch = Batch()
    for job in jobs:
        if not batch.takes(job):
            batch.make_ids()
            yield batch
            batch = Batch()
            batch.takes(job)
    if len(batch):
        batch.make_ids()
        yield batch


class _Sort:
    """Jobs of one batch that differ in id and payload only."""

    __slots__ = ("each_bytes", "payloads", "places", "shared")

    def __init__(self, shared: job_pb2.NewJob) -> None:
        self.shared = shared
        # Of a job that goes alone, without its payload.
        self.each_bytes = shared.ByteSize() + AROUND_BYTES
        self.places: list[int] = []
        self.payloads: list[bytes] = []


def _shared(job: NewJob) -> job_pb2.NewJob:
    message = new_job_to_proto(job, "")
    message.ClearField("payload")
    return message


class Batch:
    """Jobs of one call; the ids of all of them stand in their order."""

    def __init__(self) -> None:
        self.job_ids: list[str] = []
        self._sorts: dict[object, _Sort] = {}
        self._bytes = 0
        self._own_ids = self._odd_ids = False
        # Where the jobs stand that were sent one by one, and those of each sort.
        self._alone: list[int] = []
        self._uniform: list[_Sort] = []

    def __len__(self) -> int:
        return len(self.job_ids)

    def takes(self, job: NewJob) -> bool:
        """Adds a job, unless it is one too many. Raises TypeError and ValueError for what no message can hold."""
        payload, job_id = job.payload, job.job_id
        sort = self._sort_of(job)
        size, is_odd = sort.each_bytes, False
        if type(payload) is not bytes:
            payload = new_job_to_proto(job, "").payload
        if job_id:
            if isinstance(job_id, str) and UUID.fullmatch(job_id):
                job_id = job_id.lower()
            else:
                is_odd = True
                job_id = new_job_to_proto(job, job_id).job_id
                size += len(job_id.encode())
        size += len(payload)
        place = len(self.job_ids)
        if place and (place == BATCH_ITEMS or self._bytes + size > BATCH_BYTES):
            return False
        self._own_ids = self._own_ids or bool(job_id)
        self._odd_ids = self._odd_ids or is_odd
        self._bytes += size
        self.job_ids.append(job_id or "")
        sort.places.append(place)
        sort.payloads.append(payload)
        return True

    def _sort_of(self, job: NewJob) -> _Sort:
        headers, run_at = job.headers, job.run_at
        shared: object
        try:
            shared = (
                job.queue, job.kind, job.priority, job.deadline, job.retry_policy,
                # Where clocks are put back two times are equal, an hour apart.
                (run_at, run_at.fold) if run_at else None,
                tuple(sorted(headers.items())) if headers else None,
            )  # fmt: skip
            sort = self._sorts.get(shared)
        except (TypeError, AttributeError):
            # What a message refuses by name, or holds all the same.
            shared = _shared(job).SerializeToString(deterministic=True)
            sort = self._sorts.get(shared)
        if sort is None:
            sort = self._sorts[shared] = _Sort(_shared(job))
        return sort

    def make_ids(self) -> None:
        """Makes the ids of those that have none."""
        if not self._own_ids:
            self.job_ids = new_job_ids(len(self.job_ids))
        elif missing := self.job_ids.count(""):
            made = iter(new_job_ids(missing))
            self.job_ids = [job_id or next(made) for job_id in self.job_ids]

    def request(self, *, apart: bool = False) -> job_service_pb2.EnqueueBatchRequest:
        """The message; `apart`: for a server that knows no uniform jobs."""
        request = job_service_pb2.EnqueueBatchRequest()
        alone: list[tuple[int, _Sort, bytes]] = []
        self._uniform = []
        # Of two jobs with one id the first is stored: so these keep the order of the call.
        apart = apart or (self._own_ids and len(set(self.job_ids)) < len(self.job_ids))
        for sort in self._sorts.values():
            job_ids = [self.job_ids[place] for place in sort.places]
            in_binary = b"" if apart else self._in_binary(job_ids)
            if in_binary:
                request.uniform.add(shared=sort.shared, job_ids=in_binary, payloads=sort.payloads)
                self._uniform.append(sort)
                continue
            alone += zip(sort.places, repeat(sort), sort.payloads, strict=False)
        for place, sort, payload in sorted(alone, key=itemgetter(0)):
            message = request.jobs.add()
            message.CopyFrom(sort.shared)
            message.job_id, message.payload = self.job_ids[place], payload
        self._alone = sorted(place for place, _, _ in alone)
        return request

    def _in_binary(self, job_ids: Sequence[str]) -> bytes:
        """The column of these ids; empty when they are few, or one of them is none."""
        if len(job_ids) < UNIFORM_MIN:
            return b""
        if self._odd_ids and not all(map(UUID.fullmatch, job_ids)):
            return b""
        return bytes.fromhex("".join(job_ids).replace("-", ""))

    def was_understood(self, response: job_service_pb2.EnqueueBatchResponse) -> bool:
        """Whether the server knows uniform jobs, if there were any."""
        return len(response.uniform) == len(self._uniform)

    def errors(self, response: job_service_pb2.EnqueueBatchResponse) -> dict[int, AtlasQueueError]:
        """The jobs that were refused, by their places, with what was said of each."""
        errors = {
            place: from_status(result.error)
            for place, result in zip(self._alone, response.results, strict=True)
            if result.HasField("error")
        }
        for sort, of_sort in zip(self._uniform, response.uniform, strict=True):
            if of_sort.HasField("error"):
                errors |= {place: from_status(of_sort.error) for place in sort.places}
            for refusal in of_sort.refused:
                errors[sort.places[refusal.index]] = from_status(refusal.error)
        return errors
