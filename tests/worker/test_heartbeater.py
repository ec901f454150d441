"""Heartbeats alone, with a server that says what the test tells it to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from atlasqueue.errors import (
    DatabaseUnavailable,
    InvalidField,
    SessionLost,
    SessionSuperseded,
    Unavailable,
)
from atlasqueue.jobs import to_duration
from atlasqueue.retry import Backoff
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue_worker import LeaseState, heartbeater
from atlasqueue_worker.heartbeater import CALL_TIMEOUT_MAX_S, REFUSALS_MAX, Heartbeater
from atlasqueue_worker.held import TOLD_BYTES_MAX, Held
from atlasqueue_worker.session import Session
from tests.waiting import eventually_so
from tests.worker.scripted import WITHIN_S, Scripted, job, opened, serving


class Beating:
    """The heartbeats of an open session, and whom they told what."""

    def __init__(self, addresses: list[str]) -> None:
        self.held = Held()
        self.session = Session()
        self.superseded = threading.Event()
        self.reopened = threading.Event()
        self.beats = Heartbeater(
            addresses,
            None,
            self.session,
            self.held,
            on_lost=lambda: None,
            on_superseded=self.superseded.set,
            on_reopen=self.reopened.set,
        )

    async def beat(self) -> None:
        """Returns when a heartbeat was answered that was sent after this."""
        answered = threading.Event()
        self.beats.beat_now(answered.set)
        assert await asyncio.to_thread(answered.wait, WITHIN_S)


@asynccontextmanager
async def beating(*servers: Scripted) -> AsyncIterator[Beating]:
    """Heartbeats to the servers, each when it is asked for; the first one is answered."""
    async with serving(*servers) as addresses:
        made = Beating(addresses)
        made.session.opened_as(opened())
        first = asyncio.create_task(made.beat())
        await asyncio.sleep(0)
        made.beats.start()
        await first
        assert len(servers[0].heartbeats) == 1
        yield made
        await asyncio.to_thread(made.beats.stop)
        assert not made.beats._thread.is_alive()


async def test_what_a_server_says_of_jobs_reaches_them() -> None:
    server = Scripted()
    async with beating(server) as worker:
        lost, cancelled, other = jobs = [job(fence) for fence in (1, 2, 3)]
        worker.held.add(jobs)
        server.answers.append(
            wire.HeartbeatResponse(
                lost=[wire.JobLease(queue="q", job_id="j1", fence=1)],
                cancel=[wire.JobLease(queue="q", job_id=f"j{n}", fence=n) for n in (2, 99)],
                heartbeat_interval=to_duration(timedelta(seconds=50)),
                stream=wire.STREAM_STATE_REOPEN,
            )
        )
        await worker.beat()
        assert (lost.lease_state, lost.cancelled) == (LeaseState.LOST, True)
        assert (cancelled.lease_state, cancelled.cancelled) == (LeaseState.CERTAIN, True)
        assert not other.cancelled
        assert worker.held.snapshot()[0] == [cancelled, other]
        assert worker.session.clocks.heartbeat == 50
        assert worker.reopened.is_set()
        worker.reopened.clear()
        await worker.beat()
        assert worker.session.clocks.heartbeat == 50, "an answer without an interval keeps it"
        assert not worker.reopened.is_set()
        assert server.patience[-1] < CALL_TIMEOUT_MAX_S + 1, "who says nothing is left in time"
        request = server.heartbeats[-1]
        assert (request.session_id, request.epoch) == (7, 1)
        assert [held.fence for held in request.held] == [2, 3]


async def test_heartbeats_go_on_in_the_servers_interval() -> None:
    server = Scripted()
    async with beating(server) as worker:
        server.answers.append(
            wire.HeartbeatResponse(heartbeat_interval=to_duration(timedelta(milliseconds=1)))
        )
        await worker.beat()
        await eventually_so(lambda: len(server.heartbeats) > 5)


async def test_what_was_told_in_vain_is_told_again() -> None:
    server = Scripted()
    async with beating(server) as worker:
        telling = job(1)
        worker.held.add([telling])
        telling.save_checkpoint(b"page 7")
        server.answers += [Unavailable, Unavailable]
        await worker.beat()
        told = [request.held[0].checkpoint for request in server.heartbeats[1:]]
        assert told == [b"page 7"] * 3
        await worker.beat()
        assert server.heartbeats[-1].held[0].checkpoint == b""


async def test_what_a_server_refuses_is_not_told_again() -> None:
    """Each heartbeat would be refused with it, until the session is lost."""
    server = Scripted()
    async with beating(server) as worker:
        telling = job(1)
        worker.held.add([telling])
        telling.save_checkpoint(b"page 7")
        server.answers.append(InvalidField)
        await worker.beat()
        assert [r.held[0].checkpoint for r in server.heartbeats[1:]] == [b"page 7", b""]


async def test_what_does_not_fit_goes_with_the_next_heartbeat_at_once() -> None:
    server = Scripted()
    async with beating(server) as worker:
        count = TOLD_BYTES_MAX // 65_536 + 1
        jobs = [job(fence) for fence in range(1, count + 1)]
        worker.held.add(jobs)
        for telling in jobs:
            telling.save_checkpoint(b"x" * 65_536)
        await worker.beat()
        brought = [sum(bool(h.checkpoint) for h in r.held) for r in server.heartbeats[1:]]
        assert brought == [count - 1, 1]


async def test_jobs_are_uncertain_until_a_server_answers() -> None:
    server = Scripted()
    async with beating(server) as worker:
        running = job(1)
        worker.held.add([running])
        may_answer = asyncio.Event()
        server.answers += [Unavailable, may_answer]
        asked = asyncio.create_task(worker.beat())
        await eventually_so(lambda: running.lease_state is LeaseState.UNCERTAIN)
        assert not worker.beats.answered
        may_answer.set()
        await asked
        assert running.lease_state is LeaseState.CERTAIN
        assert worker.beats.answered


async def test_a_server_that_refuses_is_asked_again_before_another_is() -> None:
    """What it lacks the others may lack too; one that does not answer is left at once."""
    refuses, other = Scripted(), Scripted()
    async with beating(refuses, other) as worker:
        refuses.answers += [DatabaseUnavailable] * REFUSALS_MAX
        await worker.beat()
        assert (len(refuses.heartbeats), len(other.heartbeats)) == (1 + REFUSALS_MAX, 1)
        other.answers += [Unavailable]
        await worker.beat()
        assert (len(refuses.heartbeats), len(other.heartbeats)) == (2 + REFUSALS_MAX, 2)


async def test_the_wait_grows_with_failures_and_begins_anew_after_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ceilings: list[float] = []

    def none(_least: float, most: float) -> float:
        ceilings.append(most)
        return 0.0

    monkeypatch.setattr(
        heartbeater, "Backoff", lambda first, longest: Backoff(first, longest, uniform=none)
    )
    server = Scripted()
    async with beating(server) as worker:
        for _ in range(2):
            server.answers += [Unavailable, Unavailable]
            await worker.beat()
        assert ceilings == [0.2, 0.4, 0.2, 0.4]


async def test_a_lost_session_loses_its_jobs_and_the_next_one_is_kept_alive() -> None:
    server = Scripted()
    async with beating(server) as worker:
        lost = job(5)
        worker.held.add([lost])
        server.answers.append(SessionLost)
        await worker.beat()
        assert (lost.lease_state, lost.cancelled) == (LeaseState.LOST, True)
        assert worker.session.named() == (0, 0)
        # Nothing is said while there is no session.
        await worker.beat()
        assert len(server.heartbeats) == 2


@pytest.mark.parametrize("found", ["by a heartbeat", "by the stream"])
async def test_a_new_session_is_kept_alive_from_its_first_moment(found: str) -> None:
    """How it showed: the first heartbeat came when that of the lost session was due, which may be too late."""
    server = Scripted()
    async with beating(server) as worker:
        if found == "by a heartbeat":
            server.answers.append(SessionLost)
            await worker.beat()
        else:
            assert worker.session.forget(7)
        before = len(server.heartbeats)
        worker.session.opened_as(opened(session_id=8))
        await eventually_so(lambda: len(server.heartbeats) > before)
        assert server.heartbeats[-1].session_id == 8


async def test_the_loss_of_an_older_session_does_not_touch_the_newer_one() -> None:
    server = Scripted()
    async with beating(server) as worker:
        may_answer = asyncio.Event()
        server.answers += [may_answer, SessionLost]
        asked = asyncio.create_task(worker.beat())
        await eventually_so(lambda: len(server.heartbeats) == 2)
        # The stream has heard of it first, and has opened another by now.
        worker.session.opened_as(opened(session_id=8))
        kept = job(1)
        worker.held.add([kept])
        may_answer.set()
        await asked
        assert worker.session.named() == (8, 1)
        assert worker.held.snapshot()[0] == [kept]
        assert not kept.cancelled


@pytest.mark.parametrize("overtaken", [False, True])
async def test_a_session_is_superseded_by_others_not_by_our_own_next_stream(
    overtaken: bool,
) -> None:
    server = Scripted()
    async with beating(server) as worker:
        # More than one heartbeat can hold, and yet not sent again and again.
        for fence in range(1, TOLD_BYTES_MAX // 65_536 + 2):
            telling = job(fence)
            telling.save_checkpoint(b"x" * 65_536)
            worker.held.add([telling])
        may_answer = asyncio.Event()
        server.answers += [may_answer, SessionSuperseded]
        asked = asyncio.create_task(worker.beat())
        await eventually_so(lambda: len(server.heartbeats) == 2)
        if overtaken:
            worker.session.next_epoch()
        may_answer.set()
        await asked
        assert worker.superseded.is_set() != overtaken
        assert len(server.heartbeats) == 2


async def test_whatever_goes_wrong_the_heartbeats_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted()
    async with beating(server) as worker:
        snapshot, broken = worker.held.snapshot, threading.Event()

        def once() -> object:
            if broken.is_set():
                return snapshot()
            broken.set()
            raise LookupError("a bug")

        monkeypatch.setattr(worker.held, "snapshot", once)
        await worker.beat()
        assert broken.is_set()


async def test_they_end_while_there_is_no_session() -> None:
    worker = Beating(["127.0.0.1:1"])
    worker.beats.start()
    await asyncio.to_thread(worker.beats.stop)
    assert not worker.beats._thread.is_alive()
