"""lease: from ready to leased, under new fences."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from atlasqueue_server.model import limits
from atlasqueue_server.store.database import Database

# What a leased job takes in a message beside payload, headers and checkpoint.
LEASED_JOB_BYTES = 400


class Lane(NamedTuple):
    """One priority's window of seq, (floor, ceiling], in the order of dispatch."""

    priority: int
    floor: int
    ceiling: int


class LeasedRow(NamedTuple):
    """A job as leased. `kind` is None when its body is lost."""

    session_id: int
    job_id: str
    fence: int
    kind: str | None
    payload: bytes
    headers_json: str | None
    priority: int
    attempt: int
    crashes: int
    deliveries: int
    deadline_at: datetime | None
    deadline_ms: int | None
    max_attempts: int
    seq: int
    checkpoint: bytes | None

    @property
    def wire_bytes(self) -> int:
        """What it takes in a message, at most."""
        parts = (self.payload, self.headers_json or "", self.checkpoint or b"")
        return LEASED_JOB_BYTES + sum(map(len, parts))


class LeaseOrder(NamedTuple):
    """One statement's worth: lanes in dispatch order, and the sessions that get the jobs in turn."""

    lanes: Sequence[Lane]
    sessions: Sequence[int]


async def lease_jobs_if_ready(
    database: Database, queue: str, orders: Sequence[LeaseOrder]
) -> list[LeasedRow]:
    """Leases from one queue, in one transaction, each order after the other."""
    if len(orders) == 1:
        rows = await database.run("lease_jobs_if_ready", _params(queue, orders[0]))
        return [LeasedRow._make(row) for row in rows]
    results = await database.run_together(
        [("lease_jobs_if_ready", _params(queue, order)) for order in orders]
    )
    return [LeasedRow._make(row) for rows in results for row in rows]


def _params(queue: str, order: LeaseOrder) -> dict[str, object]:
    return {
        "queue": queue,
        "priorities": [lane.priority for lane in order.lanes],
        "floors": [lane.floor for lane in order.lanes],
        "ceilings": [lane.ceiling for lane in order.lanes],
        "sessions": list(order.sessions),
        "max_attempts": limits.MAX_ATTEMPTS_DEFAULT,
    }
