"""Sessions of workers: open, extend, reconcile what they hold, list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from atlasqueue_server.model import limits
from atlasqueue_server.model.jobs import HeldJob, LeaseName, Session
from atlasqueue_server.model.states import State
from atlasqueue_server.store import arrays
from atlasqueue_server.store.database import (
    Connection,
    Cursor,
    Database,
    Row,
    again_when_contended,
    fetch,
    send,
)


class SessionTerms(NamedTuple):
    """What a worker asks for when it opens a session."""

    queues: tuple[str, ...]
    slots: int
    worker: str
    server_id: str
    streaming: bool


def _terms(terms: SessionTerms) -> dict[str, object]:
    return {
        "queues": list(terms.queues),
        "slots": terms.slots,
        "worker": terms.worker,
        "server_id": terms.server_id,
        "streaming": terms.streaming,
        "visibility_timeout_ms": limits.VISIBILITY_TIMEOUT_S_DEFAULT * 1000,
    }


async def open_session(database: Database, terms: SessionTerms) -> Session:
    """A new session, epoch 1. Its queues must exist."""
    return Session(*(await database.run("open_session", _terms(terms)))[0])


async def reopen_session_if_live(
    database: Database, session_id: int, epoch: int, terms: SessionTerms
) -> Session | None:
    """The session under a higher epoch; None: it is lost, unknown or has that epoch already."""
    rows = await database.run(
        "reopen_session_if_live", _terms(terms) | {"session_id": session_id, "epoch": epoch}
    )
    return Session(*rows[0]) if rows else None


async def get_session(database: Database, session_id: int) -> tuple[int, bool] | None:
    """(epoch, lost) of a session; None: unknown."""
    rows = await database.run("get_session", {"session_id": session_id})
    return (rows[0][0], rows[0][1]) if rows else None


async def close_stream_if_newest(
    database: Database, session_id: int, epoch: int, server_id: str
) -> None:
    """The session has no stream any more, unless a newer one was opened."""
    await database.run(
        "close_stream_if_newest",
        {"session_id": session_id, "epoch": epoch, "server_id": server_id},
    )


async def list_fences_of_sessions(
    database: Database, floors: Mapping[int, int]
) -> dict[int, set[int]]:
    """The fences above its floor that each session (id → floor) holds."""
    fences: dict[int, set[int]] = {session_id: set() for session_id in floors}
    rows = await database.run(
        "list_fences_of_sessions",
        {
            "session_ids": arrays.bigints(list(floors)),
            "fence_floors": arrays.bigints(list(floors.values())),
        },
    )
    for session_id, fence in rows:
        fences[session_id].add(fence)
    return fences


async def list_fences_of_session(database: Database, session_id: int) -> set[int]:
    """The fences of the jobs that a session holds."""
    return (await list_fences_of_sessions(database, {session_id: 0}))[session_id]


class KnownSession(NamedTuple):
    """An open stream's session, as its server knows it; its leases are above `fence_floor`, and 0 when
    they are not to be counted."""

    session_id: int
    epoch: int
    leases: int = 0
    fence_floor: int = 0


@dataclass(frozen=True, slots=True)
class KnownSessions:
    """Many of them, encoded: a server asks for the same ones again and again."""

    session_ids: arrays.BigintArray
    epochs: arrays.BigintArray
    leases: arrays.IntegerArray
    fence_floors: arrays.BigintArray

    @classmethod
    def of(cls, known: Sequence[KnownSession]) -> KnownSessions:
        """Encodes them."""
        return cls(
            arrays.bigints([session.session_id for session in known]),
            arrays.bigints([session.epoch for session in known]),
            arrays.integers([session.leases for session in known]),
            arrays.bigints([session.fence_floor for session in known]),
        )


async def check_sessions(database: Database, known: KnownSessions) -> tuple[list[Row], list[Row]]:
    """(session_id, lost, epoch, fewer leases) of sessions that are not as known, and the
    (session_id, queue, id, fence) of leases whose cancel was requested."""
    rows = await database.run(
        "check_sessions",
        {
            "session_ids": known.session_ids,
            "epochs": known.epochs,
            "leases": known.leases,
            "fence_floors": known.fence_floors,
        },
    )
    found = [row[:4] for row in rows if row[4] is None]
    cancels = [(row[0], *row[4:]) for row in rows if row[4] is not None]
    return found, cancels


class Extended(NamedTuple):
    """What a heartbeat found: `reconciled` are jobs that went back because they were not held."""

    visibility_timeout_ms: int
    streaming: bool
    lost: Sequence[LeaseName] = ()
    cancel: Sequence[LeaseName] = ()
    reconciled: Sequence[tuple[str, str, State]] = ()
    leased: bool = False


class IdleSession(NamedTuple):
    """A session that says it holds nothing, and the fence below which that is known to be so."""

    session_id: int
    epoch: int
    fence_floor: int


async def extend_idle(database: Database, idle: Sequence[IdleSession]) -> list[Extended | None]:
    """Extends sessions that hold nothing, in one statement. None: not live. `leased`: leases of the
    session are on record, so that it needs a heartbeat of its own."""
    ordered = sorted(idle)
    rows = await database.run(
        "extend_sessions_if_live",
        {
            "session_ids": arrays.bigints([session.session_id for session in ordered]),
            "epochs": arrays.bigints([session.epoch for session in ordered]),
            "fence_floors": arrays.bigints([session.fence_floor for session in ordered]),
            "visibility_timeout_ms": limits.VISIBILITY_TIMEOUT_S_DEFAULT * 1000,
            "present_within_s": limits.PRESENT_WITHIN_S,
        },
    )
    found = {row[0]: row[1:] for row in rows}
    answers: list[Extended | None] = []
    for session in idle:
        epoch, timeout_ms, streaming, leased = found.get(
            session.session_id, (None, 0, False, False)
        )
        live = epoch is not None and epoch <= session.epoch
        answers.append(Extended(timeout_ms, streaming, leased=leased) if live else None)
    return answers


@again_when_contended
async def heartbeat(
    database: Database,
    session_id: int,
    epoch: int,
    held: Sequence[HeldJob],
    last_fence: int,
    fence_floor: int = 0,
) -> Extended | None:
    """Extends the session and reconciles what it holds, in one transaction; None: not live.

    Leases up to `fence_floor` are known to have been looked at.

    The row lock of extend_session_if_live keeps expire away until the commit. A report of jobs whose
    checkpoints are being kept may take the same rows in another order; then it runs again.
    """
    by_queue: dict[str, list[HeldJob]] = defaultdict(list)
    for job in sorted(held, key=lambda j: j.job_id):
        by_queue[job.queue].append(job)
    # One pipeline is one transaction: nothing here may ask for a Sync before its end.
    async with database.connection() as connection, connection.pipeline():
        extend = await send(
            connection,
            "extend_session_if_live",
            {
                "session_id": session_id,
                "epoch": epoch,
                "visibility_timeout_ms": limits.VISIBILITY_TIMEOUT_S_DEFAULT * 1000,
                "present_within_s": limits.PRESENT_WITHIN_S,
            },
        )
        rows = await extend.fetchall()
        if not rows:
            return None
        visibility_timeout_ms, streaming = rows[0]
        reconcile = await send(
            connection,
            "reconcile_jobs_if_not_held",
            {
                "session_id": session_id,
                "fence_floor": fence_floor,
                "last_fence": last_fence,
                "held_fences": arrays.bigints([j.fence for j in held]),
                "arrives_within_s": limits.ARRIVES_WITHIN_S,
            },
        )
        classifies = {
            queue: await _save_and_classify(connection, session_id, queue, jobs)
            for queue, jobs in sorted(by_queue.items())
        }
    reconciled = [(queue, job_id, State(state)) for queue, job_id, state in await fetch(reconcile)]
    lost, cancel = await _lost_and_to_cancel(classifies)
    return Extended(visibility_timeout_ms, streaming, lost, cancel, reconciled)


async def _lost_and_to_cancel(
    classifies: Mapping[str, Cursor],
) -> tuple[list[LeaseName], list[LeaseName]]:
    lost: list[LeaseName] = []
    cancel: list[LeaseName] = []
    for queue, cursor in classifies.items():
        for job_id, fence, is_lost in await fetch(cursor):
            (lost if is_lost else cancel).append(LeaseName(queue, job_id, fence))
    return lost, cancel


async def release_undelivered(
    database: Database, session_id: int, last_fence: int
) -> list[tuple[str, str, State]]:
    """Leases of the session above `last_fence` go back to ready; (queue, id, state) of each."""
    rows = await database.run(
        "release_undelivered_jobs", {"session_id": session_id, "last_fence": last_fence}
    )
    return [(queue, job_id, State(state)) for queue, job_id, state in rows]


async def _save_and_classify(
    connection: Connection, session_id: int, queue: str, jobs: Sequence[HeldJob]
) -> Cursor:
    told = [j for j in jobs if (j.percent, j.note, j.checkpoint) != (None, None, None)]
    if told:
        await send(
            connection,
            "save_checkpoints_if_fenced",
            {
                "queue": queue,
                "job_ids": [j.job_id for j in told],
                "fences": [j.fence for j in told],
                "percents": [j.percent for j in told],
                "notes": [j.note for j in told],
                "data": [j.checkpoint for j in told],
            },
        )
    return await send(
        connection,
        "classify_held_jobs",
        {
            "session_id": session_id,
            "queue": queue,
            "job_ids": arrays.uuids([j.job_id for j in jobs]),
            "fences": arrays.bigints([j.fence for j in jobs]),
        },
    )


class SessionRow(NamedTuple):
    """A session, for operators."""

    session_id: int
    worker: str
    queues: list[str]
    slots: int
    leased: int
    epoch: int
    streaming: bool
    server_id: str
    opened_at: datetime
    expires_at: datetime
    time_left_s: float


async def list_sessions(database: Database, before: int, most: int) -> list[SessionRow]:
    """Up to `most` live sessions with ids below `before`, newest first."""
    rows = await database.run("list_sessions", {"before": before, "most": most})
    return [SessionRow._make(row) for row in rows]
