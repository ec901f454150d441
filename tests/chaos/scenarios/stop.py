"""SIGSTOP and SIGCONT: processes that were away and do not know it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import grpc

from atlasqueue.jobs import NewJob
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term, promote_jobs_if_leader
from tests.chaos.arena import Arena
from tests.chaos.load import enqueue_gated, load, open_gate
from tests.chaos.scenarios import scenario
from tests.history.clerk import Clerk
from tests.history.events import Statement

LATE = "late"
PROBE = "probe"
PROBES = 5
OK_PAYLOAD = b'{"ms": 1, "first": "ok"}'


@scenario("stop_worker", "SIGSTOP of a worker for twice its visibility timeout", catches=("fence",))
async def stop_worker(arena: Arena) -> None:
    """Its jobs run elsewhere meanwhile; what it then completes is STALE, and the second result stands."""
    progress = arena.progress
    async with load(arena, arena.of(200, 2000)) as jobs:
        await jobs.completed(0.3)
        late = await lease_and_forget(arena)
        # Fewer than one worker's slots: the other must have room for what the stopped one held.
        held = await enqueue_gated(arena, arena.settings.slots // 2)
        await progress.until(lambda: all(map(progress.deliveries, held)), "the held jobs run")
        victim = max(
            (arena.workers["worker_1"], arena.workers["worker_2"]),
            key=lambda worker: len(progress.held_by(worker.who, held)),
        )
        stopped = progress.held_by(victim.who, held)
        arena.strike(f"SIGSTOP {victim.who}")
        victim.stop()
        await asyncio.sleep(2 * arena.settings.visibility_timeout_s)
        await progress.until(lambda: progress.redelivered(held) >= stopped, "they run again")
        await complete_late(arena, *late)
        open_gate(arena)
        victim.resume()
        arena.recovers()
        await progress.until(lambda: held <= progress.accepted, "the held jobs complete")
    assert not jobs.errors, jobs.errors


async def lease_and_forget(arena: Arena) -> tuple[Clerk, list[object], grpc.aio.Channel]:
    """A worker that leases jobs of a queue of its own and then says nothing, not even that it lives."""
    channel = grpc.aio.insecure_channel(arena.addresses["server_1"])
    clerk = Clerk(arena.recorder, channel, LATE)
    payload = json.dumps({"gate": "gate"}).encode()
    for _ in range(3):
        await clerk.enqueue(payload, kind="hold")
    leased = await clerk.lease("forgetful", jobs=3)
    assert len(leased) == 3
    arena.start_worker("late", "--queues", LATE)
    return clerk, leased, channel


async def complete_late(
    arena: Arena, clerk: Clerk, leased: list[object], channel: grpc.aio.Channel
) -> None:
    """Completes what runs elsewhere by now."""
    ids = {job.job_id for job in leased}
    await arena.progress.until(
        lambda: arena.progress.redelivered(ids) == ids, "the forgotten jobs run again"
    )
    answers = {await clerk.complete("forgetful", job) for job in leased}
    arena.notes["late completions"] = ", ".join(sorted(answers))
    await channel.close()
    assert arena.broken or answers == {"stale"}, answers


@scenario("stop_leader", "SIGSTOP of the leader for three leases", servers=3, catches=("term",))
async def stop_leader(arena: Arena) -> None:
    """Another leads; the old one wakes up believing in its term, and its writes change no row (I8)."""
    async with load(arena, arena.of(250, 3000)) as jobs:
        for share in (0.3,) if arena.short else (0.2, 0.5):
            await jobs.completed(share)
            victim = await arena.leader()
            arena.strike(f"SIGSTOP {victim.who} (leads)")
            victim.stop()
            await asyncio.sleep(3 * arena.settings.leader_lease_s)
            await arena.leader(not_role=victim.role)
            await write_under_old_term(arena, victim.role)
            await jobs.completed(share + 0.2)
            victim.resume()
            arena.recovers()
    assert not jobs.errors, jobs.errors


async def write_under_old_term(arena: Arena, role: str) -> None:
    """What the stopped leader would send when it wakes up: promotes of its own term, each with a job that has just
    become due.

    The waking process sends such statements too, but whether one of them meets a due job is chance.
    """
    ((epoch, term, newest, holder),) = await arena.sql(
        "select 'epoch'::timestamptz, max(t.term), max(l.term), min(t.holder)"
        " from journal.terms t, atlasqueue.leader l where t.actor = %(role)s",
        role=role,
    )
    async with arena.client() as client:
        in_an_hour = datetime.now(UTC) + timedelta(hours=1)
        probes = [NewJob(PROBE, "work", OK_PAYLOAD, run_at=in_an_hour) for _ in range(PROBES)]
        job_ids = await client.enqueue_many(probes)
    database = Database(arena.url, connections_max=2)
    await database.open()
    try:
        for job_id in job_ids:
            await arena.sql(
                "update atlasqueue.scheduled set run_at = clock_timestamp()"
                " where queue = %(queue)s and job_id = %(job)s",
                queue=PROBE,
                job=job_id,
            )
            rows, _ = await promote_jobs_if_leader(
                database, Term(term, holder), PROBE, epoch, batch=10
            )
            arena.recorder.record(
                Statement, name="promote_jobs_if_leader", term=term, newest=newest, rows=rows
            )
    finally:
        await database.close()
    arena.start_worker("prober", "--queues", PROBE)


@scenario("stop_server", "SIGSTOP of a server that does not lead", servers=3)
async def stop_server(arena: Arena) -> None:
    """A server that takes connections and answers nothing: clients and workers go elsewhere."""
    async with load(arena, arena.of(200, 2000)) as jobs:
        await jobs.completed(0.3)
        leader = await arena.leader()
        victim = next(a for r, a in sorted(arena.servers.items()) if r != leader.role)
        arena.strike(f"SIGSTOP {victim.who}")
        victim.stop()
        await jobs.completed(0.7)
        victim.resume()
        arena.recovers()
    assert not jobs.errors, jobs.errors
