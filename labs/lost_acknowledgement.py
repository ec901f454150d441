"""The server has stored a job, and its answer is lost on the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import grpc

from atlasqueue.ids import new_job_id
from atlasqueue.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc
from labs.lab import Verdict, lab
from labs.stage import Stage
from tests.chaos.link import Link
from tests.chaos.names import QUEUE

ORDERS = 5
UNLUCKY = 3
PATIENCE_S = 1.0
CHARGED = """
    select convert_from(j.payload, 'utf8')::json ->> 'order' as name, count(*)
    from atlasqueue.finished f join atlasqueue.jobs j using (queue, job_id)
    group by name having count(*) > 1
"""


@lab(
    "lost_acknowledgement",
    "A lost acknowledgement",
    question=(
        "A shop enqueues one job per order: charge this card. For one of them no answer comes within a "
        "second. Was it the request that was lost, or the answer? The shop cannot know, and tries again."
    ),
    missing="an id that the producer makes before it sends",
    chapter="3-queues.md",
    variant=None,
    servers=1,
    workers=1,
)
async def lost_acknowledgement(stage: Stage) -> Verdict:
    """Counts how often each order is charged."""
    link = Link(stage.arena.addresses["server_1"])
    address = await link.open()
    try:
        for number in range(1, ORDERS + 1):
            job_id = "" if stage.naive else new_job_id()
            unlucky = number == UNLUCKY
            if unlucky:
                await stage.key(
                    f"order {number}: cut the way back; the request arrives, its answer does not"
                )
            cut = partial(link.silence, answers_only=True) if unlucky else None
            if not await _enqueue(stage, address, number, job_id, cut):
                stage.event(f"order {number}: no answer within {PATIENCE_S:g} s", "red")
                link.reset()
                link.heal()
                await stage.key(f"try order {number} again")
                await _enqueue(stage, address, number, job_id)
    finally:
        await link.close()
    await stage.arena.settle()
    twice = await stage.sql(CHARGED)
    if twice:
        says = "; ".join(f"order {name} was charged {count} times" for name, count in twice)
        return Verdict(True, says)
    ((charged,),) = await stage.sql("select count(*) from atlasqueue.finished")
    return Verdict(charged != ORDERS, f"{ORDERS} orders, {charged} charges, none twice")


async def _enqueue(
    stage: Stage, address: str, number: int, job_id: str, cut: Callable[[], None] | None = None
) -> bool:
    """Whether the answer came. A new connection each time, as a web request would have."""
    payload = f'{{"order": {number}, "ms": 1, "first": "ok"}}'.encode()
    job = job_pb2.NewJob(queue=QUEUE, kind="work", payload=payload, job_id=job_id)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        request = job_service_pb2.EnqueueRequest(job=job)
        # With the way back cut not even the handshake would be answered.
        await asyncio.wait_for(channel.channel_ready(), 10)
        if cut is not None:
            cut()
        try:
            response = await stub.Enqueue(request, timeout=PATIENCE_S)
        except grpc.RpcError:
            return False
    stage.event(f"order {number} is job …{response.job_id[-4:]}", "green")
    return True
