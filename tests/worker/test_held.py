"""What a worker says has reached it."""

from __future__ import annotations

from atlasqueue.v1 import worker_service_pb2
from atlasqueue_worker.held import Held
from atlasqueue_worker.job import JobContext


def test_the_highest_fence_stays_when_a_lower_one_comes_later() -> None:
    """Leases of several queues arrive in any order; told the lower one, a server would release what is held."""
    held = Held()
    for fence in (5, 3):
        leased = worker_service_pb2.LeasedJob(queue="q", job_id="j", fence=fence)
        held.add([JobContext(leased)])
    assert held.last_fence == 5
