"""lease: from ready to leased, under new fences."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from atlasqueue_server.model import limits
from atlasqueue_server.model.columns import id_text
from atlasqueue_server.store import arrays
from atlasqueue_server.store.database import Database, Params, Row

_PAYLOAD, _HEADERS, _CHECKPOINT = map(attrgetter, ("payload", "headers_json", "checkpoint"))
# What a leased job takes in a message beside payload, headers and checkpoint.
LEASED_JOB_BYTES = 400


class SeqWindow(NamedTuple):
    """Where a lease looks: one priority's places in ready, (floor, ceiling]."""

    priority: int
    floor: int
    ceiling: int


class LeasedRow(NamedTuple):
    """A job as leased. `kind` is None when its body is lost."""

    session_id: int
    id_bytes: bytes
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
    # From when it could first have been leased to now; None but for a first lease.
    waited_s: float | None = None

    @property
    def job_id(self) -> str:
        """The id in canonical text form."""
        return id_text(self.id_bytes)

    @property
    def wire_bytes(self) -> int:
        """What it takes in a message, at most."""
        return wire_bytes([self])


def wire_bytes(rows: Sequence[LeasedRow]) -> int:
    """What these take in a message, at most."""
    # Most have no headers and no checkpoint; a lost body has no payload either.
    payloads, checkpoints = (filter(None, map(field, rows)) for field in (_PAYLOAD, _CHECKPOINT))
    headers = map(str.encode, filter(None, map(_HEADERS, rows)))
    return LEASED_JOB_BYTES * len(rows) + sum(map(len, chain(payloads, checkpoints, headers)))


# As LeasedRow._make, which is a call in Python for each.
_leased_row = partial(tuple.__new__, LeasedRow)


class LeaseOrder(NamedTuple):
    """One statement's worth: windows in dispatch order, and the sessions that get the jobs in turn."""

    windows: Sequence[SeqWindow]
    sessions: Sequence[int]


async def lease_jobs_if_ready(
    database: Database, queue: str, orders: Sequence[LeaseOrder]
) -> list[LeasedRow]:
    """Leases from one queue, in one transaction, each order after the other."""
    return leased_rows(await database.run_together(lease_statements(queue, orders)))


def lease_statements(queue: str, orders: Sequence[LeaseOrder]) -> list[tuple[str, Params]]:
    """The statements of these orders, for a transaction."""
    return [("lease_jobs_if_ready", _params(queue, order)) for order in orders]


def leased_rows(results: Sequence[Sequence[Row]]) -> list[LeasedRow]:
    """What such statements have answered."""
    return list(map(_leased_row, chain.from_iterable(results)))


def _params(queue: str, order: LeaseOrder) -> Params:
    return {
        "queue": queue,
        "priorities": arrays.smallints([window.priority for window in order.windows]),
        "floors": arrays.bigints([window.floor for window in order.windows]),
        "ceilings": arrays.bigints([window.ceiling for window in order.windows]),
        # Exactly the statement's type: a cast in it would copy the whole array for every job.
        "sessions": arrays.bigints(order.sessions),
        "max_attempts": limits.MAX_ATTEMPTS_DEFAULT,
    }
