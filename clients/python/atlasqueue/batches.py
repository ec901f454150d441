"""Cuts many jobs into messages that the transport carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from atlasqueue.v1 import job_pb2

# Of 4 MiB and 10 000; smaller batches share the server's work better than the largest would.
BATCH_BYTES = 3 * 1024 * 1024
BATCH_ITEMS = 2000


def batches(jobs: Iterable[job_pb2.NewJob]) -> Iterator[Sequence[job_pb2.NewJob]]:
    """Runs of jobs, each at most BATCH_ITEMS and, unless it is a single job, BATCH_BYTES."""
    batch: list[job_pb2.NewJob] = []
    size = 0
    for job in jobs:
        job_size = job.ByteSize() + 8
        if batch and (len(batch) == BATCH_ITEMS or size + job_size > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += job_size
    if batch:
        yield batch
