"""The lease stream alone, with servers that say what the test tells them to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from atlasqueue.errors import SessionLost, SessionSuperseded, Unavailable
from atlasqueue.jobs import to_duration
from atlasqueue.retry import Backoff
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue_worker import JobContext, LeaseState
from atlasqueue_worker import stream as streaming
from atlasqueue_worker.held import Held
from atlasqueue_worker.session import Session
from atlasqueue_worker.stream import Stream
from tests.waiting import eventually_so
from tests.worker.scripted import END, WITHIN_S, Scripted, leased, opened, serving


class Streaming:
    """A stream to the servers, and the jobs that it brought."""

    def __init__(self, addresses: list[str]) -> None:
        self.held = Held()
        self.session = Session()
        self.jobs: list[JobContext] = []
        terms = wire.LeaseRequest(queues=["q"], slots=2, worker="w")
        self.stream = Stream(addresses, None, terms, self.session, self.held, self._begin)

    def _begin(self, jobs: list[JobContext]) -> None:
        # An outcome may be there at once, and what is not held cannot be cancelled or lost.
        assert all(self.held.get(job.fence) is job for job in jobs)
        self.jobs += jobs


@asynccontextmanager
async def streamed(*servers: Scripted) -> AsyncIterator[Streaming]:
    """A stream that is kept open meanwhile."""
    async with serving(*servers) as addresses:
        made = Streaming(addresses)
        running = asyncio.create_task(made.stream.run())
        yield made
        running.cancel()
        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()


def session_opened(
    session_id: int = 7, epoch: int = 1, *, ping_s: float = 60.0
) -> wire.LeaseResponse:
    """The first event of a stream."""
    return wire.LeaseResponse(session_opened=opened(session_id, epoch, ping_s=ping_s))


def jobs(*fences: int) -> wire.LeaseResponse:
    """Jobs arrive."""
    return wire.LeaseResponse(leased_jobs=wire.LeasedJobs(jobs=[leased(n) for n in fences]))


async def test_jobs_are_held_before_they_run_and_hear_of_their_cancel() -> None:
    server = Scripted()
    asked = [wire.JobLease(queue="q", job_id=f"j{n}", fence=n) for n in (4, 99)]
    server.streams.append(
        [
            session_opened(),
            jobs(4, 5),
            wire.LeaseResponse(cancel_requested=wire.CancelRequested(jobs=asked)),
        ]
    )
    async with streamed(server) as worker:
        await eventually_so(lambda: worker.jobs and worker.jobs[0].cancelled)
        assert [(job.fence, job.cancelled) for job in worker.jobs] == [(4, True), (5, False)]
        assert worker.session.named() == (7, 1)
        assert worker.stream.alive


async def test_a_stream_that_ends_is_opened_again_under_the_next_epoch() -> None:
    """On the same server, which had taken it."""
    server, other = Scripted(), Scripted()
    server.streams += [[session_opened(), jobs(5), END], []]
    async with streamed(server, other) as worker:
        await eventually_so(lambda: len(server.leases) == 2)
        first, again = server.leases
        assert (first.session_id, first.epoch, first.last_fence) == (0, 0, 0)
        assert (again.session_id, again.epoch, again.last_fence) == (7, 2, 5)
        assert (list(again.queues), again.slots, again.worker) == (["q"], 2, "w")
        assert not worker.stream.alive, "it is not open yet"
        watch = [t for t in asyncio.all_tasks() if "Stream._watch" in repr(t)]
        assert len(watch) == 1, "nobody looks after the one that has ended"
        assert not other.leases
        assert not worker.jobs[0].cancelled


async def test_a_server_that_opens_no_stream_is_passed_over() -> None:
    refuses, other = Scripted(), Scripted()
    refuses.streams.append([Unavailable])
    other.streams.append([session_opened()])
    async with streamed(refuses, other) as worker:
        await eventually_so(lambda: worker.stream.alive)
        assert (len(refuses.leases), len(other.leases)) == (1, 1)


async def test_a_server_that_goes_away_is_left_after_the_time_that_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leaves, other = Scripted(), Scripted()
    away = wire.GoAway(reconnect_after=to_duration(timedelta(seconds=1000)))
    leaves.streams.append([session_opened(), wire.LeaseResponse(go_away=away), END])
    other.streams.append([session_opened(epoch=2)])
    slept: list[float] = []
    sleep = asyncio.sleep

    async def shortly(seconds: float) -> None:
        slept.append(seconds)
        await sleep(min(seconds, 0.01))

    monkeypatch.setattr(asyncio, "sleep", shortly)
    async with streamed(leaves, other) as worker:
        await eventually_so(lambda: worker.stream.alive and other.leases)
        assert (len(leaves.leases), len(other.leases)) == (1, 1)
    assert [seconds for seconds in slept if seconds >= 1000], slept
    assert max(slept) < 1001


@pytest.mark.parametrize("when", ["while it is open", "when it is opened again"])
async def test_a_lost_session_loses_its_jobs_and_a_new_one_is_asked_for(when: str) -> None:
    server = Scripted()
    if when == "while it is open":
        server.streams.append([session_opened(), jobs(5), SessionLost])
    else:
        server.streams += [[session_opened(), jobs(5), END], [SessionLost]]
    server.streams.append([session_opened(8)])
    async with streamed(server) as worker:
        await eventually_so(lambda: worker.session.named()[0] == 8)
        again = server.leases[-1]
        assert (again.session_id, again.epoch, again.last_fence) == (0, 0, 0)
        (lost,) = worker.jobs
        assert (lost.lease_state, lost.cancelled) == (LeaseState.LOST, True)
        assert worker.held.snapshot()[0] == []


async def test_a_superseded_session_ends_the_worker() -> None:
    server = Scripted()
    server.streams.append([session_opened(), SessionSuperseded])
    async with serving(server) as addresses, asyncio.timeout(WITHIN_S):
        with pytest.raises(SessionSuperseded):
            await Streaming(addresses).stream.run()


@pytest.mark.parametrize("opens", [False, True])
async def test_a_silent_stream_is_left_for_the_next_server(
    monkeypatch: pytest.MonkeyPatch, opens: bool
) -> None:
    monkeypatch.setattr(streaming, "WATCH_S", 0.01)
    silent, other, third = Scripted(), Scripted(), Scripted()
    if opens:
        silent.streams.append([session_opened()])
    other.streams.append([session_opened(epoch=2)])
    async with streamed(silent, other, third) as worker:
        await eventually_so(lambda: silent.leases and worker.stream.alive == opens)
        worker.stream._heard_at -= 1000
        await eventually_so(lambda: other.leases and worker.stream.alive)
        assert [len(server.leases) for server in (silent, other, third)] == [1, 1, 0]


async def test_a_stream_that_its_server_does_not_know_is_dropped_if_it_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not before: what the server said may be older than the stream."""
    monkeypatch.setattr(streaming, "PINGS_MISSED_MAX", 1e12)
    server, other = Scripted(), Scripted()
    server.streams.append([session_opened()])
    other.streams.append([session_opened(epoch=2)])
    async with streamed(server, other) as worker:
        await eventually_so(lambda: worker.stream.alive)
        call = worker.stream._call
        worker.stream.reopen()
        assert worker.stream.alive
        assert not call.cancelled()
        worker.session.clocks.ping = 1e-9
        worker.stream.reopen()
        await eventually_so(lambda: other.leases and worker.stream.alive)
        assert call.cancelled()


async def test_a_stream_that_nothing_is_heard_of_is_not_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Scripted()
    server.streams.append([session_opened()])
    async with streamed(server) as worker:
        assert not worker.stream.alive
        await eventually_so(lambda: worker.stream.alive)
        monkeypatch.setattr(streaming, "PINGS_MISSED_MAX", 0.0)
        assert not worker.stream.alive


@pytest.mark.parametrize(
    ("events", "lived", "grows"),
    [
        ([session_opened(), END], True, False),
        ([session_opened(), END], False, True),
        ([Unavailable], True, True),
    ],
    ids=["lived", "ended at once", "never opened"],
)
async def test_the_wait_grows_until_a_stream_has_lived(
    monkeypatch: pytest.MonkeyPatch, events: list[object], lived: bool, grows: bool
) -> None:
    ceilings: list[float] = []

    class Watched(Backoff):
        """That does not wait, and thinks of a stream's life as the test says."""

        def next_delay(self) -> float:
            self.uniform = max
            ceilings.append(super().next_delay())
            return 0.0

        def reset_if_lived(self, seconds: float) -> None:
            super().reset_if_lived(self.longest if lived else seconds - 1000)

    monkeypatch.setattr(streaming, "Backoff", Watched)
    server = Scripted()
    server.streams += [events] * 3
    async with streamed(server):
        await eventually_so(lambda: len(server.leases) == 4)
    assert ceilings == ([0.1, 0.2, 0.4] if grows else [0.1] * 3)
