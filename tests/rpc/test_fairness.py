"""A call with much to refuse leaves room for others."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue_server.model import limits
from atlasqueue_server.rpc.batch import JUDGED_AT_ONCE
from atlasqueue_server.rpc.jobs import JobHandlers


async def test_others_are_served_while_a_batch_is_refused() -> None:
    """How it showed: 20 KiB of 10 000 empty jobs kept the event loop for a second; ten such calls, and
    heartbeats and the leader's lease were late."""
    nothing = cast(Any, None)
    handlers = JobHandlers(nothing, nothing, nothing, nothing, nothing)
    jobs = [job_pb2.NewJob()] * limits.BATCH_ITEMS_MAX
    request = job_service_pb2.EnqueueBatchRequest(jobs=jobs)
    call = asyncio.create_task(handlers.enqueue_batch(request))
    turns = 0
    while not call.done():
        await asyncio.sleep(0)
        turns += 1
    assert all(result.HasField("error") for result in call.result().results)
    # Judged in parts, and told in parts.
    assert turns >= 2 * limits.BATCH_ITEMS_MAX // JUDGED_AT_ONCE
