"""A call with much to refuse leaves room for others."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue_server.model import limits
from atlasqueue_server.rpc.batch import JUDGED_AT_ONCE
from atlasqueue_server.rpc.jobs import JobHandlers

EMPTY = [job_pb2.NewJob()] * limits.BATCH_ITEMS_MAX
NIL_IDS = job_service_pb2.UniformJobs(
    shared=job_pb2.NewJob(queue="q", kind="k"),
    job_ids=bytes(16 * limits.BATCH_ITEMS_MAX),
    payloads=[b""] * limits.BATCH_ITEMS_MAX,
)
HOLLOW = [job_service_pb2.UniformJobs()] * limits.BATCH_ITEMS_MAX


@pytest.mark.parametrize(
    ("request_of", "walks"),
    [({"jobs": EMPTY}, 2), ({"uniform": [NIL_IDS]}, 3), ({"uniform": HOLLOW}, 2)],
    ids=["jobs", "uniform jobs", "many of no uniform jobs"],
)
async def test_others_are_served_while_a_batch_is_refused(
    request_of: dict[str, Any], walks: int
) -> None:
    """How it showed: 20 KiB of 10 000 empty jobs kept the event loop for a second; ten such calls, and
    heartbeats and the leader's lease were late. 10 000 nil ids of uniform jobs kept it for 0.4 s."""
    nothing = cast(Any, None)
    handlers = JobHandlers(nothing, nothing, nothing, nothing, nothing)
    request = job_service_pb2.EnqueueBatchRequest(**request_of)
    call = asyncio.create_task(handlers.enqueue_batch(request))
    turns = 0
    while not call.done():
        await asyncio.sleep(0)
        turns += 1
    response = call.result()
    results = [*response.results, *(each for all_of in response.uniform for each in all_of.refused)]
    results = results or list(response.uniform)
    assert len(results) == limits.BATCH_ITEMS_MAX
    assert all(result.HasField("error") for result in results)
    assert response.ByteSize() <= limits.MESSAGE_BYTES_MAX
    # Judged in parts, taken apart in parts, and told in parts.
    assert turns >= walks * (limits.BATCH_ITEMS_MAX // JUDGED_AT_ONCE - 1)
