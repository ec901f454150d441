"""The batcher: callers that wait together share a flush, and each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from atlasqueue_server.domain import batching
from atlasqueue_server.domain.batching import Batcher
from atlasqueue_server.model.columns import JOB_ID_BYTES, CompletedJobs
from atlasqueue_server.model.errors import Overloaded, ShuttingDown
from atlasqueue_server.model.jobs import Outcome
from tests.waiting import eventually_so


class Store:
    """A flush that ends when it is told to; answers each number with its double."""

    def __init__(self) -> None:
        self.flushed: list[list[int]] = []
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def flush(self, items: Sequence[int]) -> list[int]:
        """Records, waits, answers."""
        self.flushed.append(list(items))
        self.began.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return [2 * item for item in items]

    def batcher(self, flights: int = 1) -> Batcher[int, int]:
        """A batcher on this store."""
        return Batcher(self.flush, size=lambda item: 1, flights=flights)


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_idle_batcher_flushes_at_once_and_callers_meanwhile_share_the_next() -> None:
    store = Store()
    batcher = store.batcher()
    first = asyncio.create_task(batcher.submit([1]))
    await store.began.wait()
    rest = [asyncio.create_task(batcher.submit([i, i + 10])) for i in (2, 3, 4)]
    await _turns()
    assert store.flushed == [[1]]
    store.may_end.set()
    assert await first == [2]
    assert [await task for task in rest] == [[4, 24], [6, 26], [8, 28]]
    assert store.flushed == [[1], [2, 12, 3, 13, 4, 14]]


async def test_another_flight_leaves_only_with_a_large_batch_and_two_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sixteen unary enqueues at once made 0.9 commits a job: each of three flights took one or two."""
    monkeypatch.setattr(batching, "BESIDE_MIN", 3)
    store = Store()
    batcher = store.batcher(flights=2)
    tasks = []
    for i in range(8):
        tasks.append(asyncio.create_task(batcher.submit([i])))
        await _turns()
    assert store.flushed == [[0], [1, 2, 3]]
    store.may_end.set()
    assert [await task for task in tasks] == [[2 * i] for i in range(8)]
    assert store.flushed[2:] == [[4, 5, 6, 7]]
    assert await batcher.submit([9]) == [18]


async def test_a_late_flight_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An enqueue that waited for another transaction with its id held up all others of one job for 5 s."""
    monkeypatch.setattr(batching, "LATE_S", 0.01)
    store = Store()
    batcher = store.batcher(flights=3)
    late = asyncio.create_task(batcher.submit([1]))
    await store.began.wait()
    store.began.clear()
    next_one = asyncio.create_task(batcher.submit([2]))
    await store.began.wait()
    assert store.flushed == [[1], [2]]
    store.may_end.set()
    assert [await late, await next_one] == [[2], [4]]
    assert await batcher.submit([3]) == [6]


@pytest.mark.parametrize("by", ["callers", "rows", "time"])
async def test_after_a_flight_that_calls_have_shared_the_next_waits_for_others(
    monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Sixty-four unary enqueues at once were committed by fives: each flight left before the rest had come."""
    monkeypatch.setattr(batching, "GATHER_S_MAX", 0.01 if by == "time" else 1e6)
    monkeypatch.setattr(batching, "GATHER_FLIGHTS_MAX", 1e9)
    monkeypatch.setattr(batching, "GATHER_CALLS", 1e-9)
    monkeypatch.setattr(batching, "BESIDE_MIN", 4)
    store = Store()
    batcher = store.batcher()
    tasks = [asyncio.create_task(batcher.submit([0]))]
    await store.began.wait()
    tasks += [asyncio.create_task(batcher.submit([i])) for i in (1, 2, 3)]
    await _turns()
    store.may_end.set()
    await asyncio.gather(*tasks)
    first = asyncio.create_task(batcher.submit([4]))
    await _turns()
    assert store.flushed == [[0], [1, 2, 3]]
    async with asyncio.timeout(30):
        if by == "callers":
            others = await asyncio.gather(batcher.submit([5]), batcher.submit([6]))
            assert others == [[10], [12]]
            assert store.flushed[2:] == [[4, 5, 6]]
        elif by == "rows":
            assert await batcher.submit([5] * 3) == [10] * 3
            assert store.flushed[2:] == [[4, 5, 5, 5]]
        assert await first == [8]


async def test_a_large_call_is_cut_and_answered_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "ROWS_MAX", 3)
    store = Store()
    store.may_end.set()
    batcher = store.batcher()
    assert await batcher.submit(list(range(8))) == [2 * i for i in range(8)]
    assert [len(flight) for flight in store.flushed] == [3, 3, 2]


async def test_a_call_of_many_bytes_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "BYTES_MAX", 10)
    store = Store()
    store.may_end.set()
    batcher: Batcher[int, int] = Batcher(store.flush, size=lambda item: item, flights=1)
    assert await batcher.submit([6, 4, 1, 50, 2]) == [12, 8, 2, 100, 4]
    assert [i for flight in store.flushed for i in flight] == [6, 4, 1, 50, 2]


@pytest.mark.parametrize("waiting", [False, True], ids=["in flight", "waiting for a flight"])
async def test_a_caller_that_goes_away_does_not_take_its_rows_back(waiting: bool) -> None:
    store = Store()
    batcher = store.batcher()
    first = asyncio.create_task(batcher.submit([1]))
    await store.began.wait()
    gone = asyncio.create_task(batcher.submit([2])) if waiting else first
    stays = asyncio.create_task(batcher.submit([3]))
    await _turns()
    gone.cancel()
    await _turns()
    assert gone.cancelled()
    store.may_end.set()
    assert await stays == [6]
    await batcher.close()
    assert [i for flight in store.flushed for i in flight] == ([1, 2, 3] if waiting else [1, 3])


async def test_an_error_reaches_every_caller_of_the_flight_and_no_other() -> None:
    store = Store()
    batcher = store.batcher()
    store.error = RuntimeError("the commit failed")
    first = asyncio.create_task(batcher.submit([1]))
    await store.began.wait()
    together = [asyncio.create_task(batcher.submit([i])) for i in (2, 3)]
    await _turns()
    store.may_end.set()
    for task in (first, *together):
        with pytest.raises(RuntimeError, match="the commit failed"):
            await task
    store.error = None
    assert await batcher.submit([4]) == [8]


async def test_close_waits_for_what_was_let_in_and_refuses_the_rest() -> None:
    store = Store()
    batcher = store.batcher()
    inside = [asyncio.create_task(batcher.submit([i])) for i in (1, 2)]
    await store.began.wait()
    await _turns()
    closing = asyncio.create_task(batcher.close())
    await _turns()
    assert not closing.done()
    with pytest.raises(ShuttingDown):
        await batcher.submit([3])
    store.may_end.set()
    await closing
    assert [await task for task in inside] == [[2], [4]]
    assert sum(map(len, store.flushed)) == 2


async def test_close_waits_for_a_flight_that_has_left_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batching, "LATE_S", 0.01)
    begun: list[Sequence[int]] = []
    may_end = [asyncio.Event(), asyncio.Event()]

    async def flush(items: Sequence[int]) -> Sequence[int]:
        begun.append(items)
        await may_end[len(begun) - 1].wait()
        return items

    batcher = Batcher(flush, size=lambda _: 1, flights=2)
    late = asyncio.create_task(batcher.submit([1]))
    await _turns()
    beside = asyncio.create_task(batcher.submit([2]))
    await _turns()
    closing = asyncio.create_task(batcher.close())
    await eventually_so(lambda: len(begun) == 2)
    may_end[0].set()
    assert await late == [1]
    await _turns()
    assert not closing.done()
    may_end[1].set()
    await closing
    assert await beside == [2]


async def test_too_many_waiting_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts what waits, not what is in flight; what waits is still answered."""
    monkeypatch.setattr(batching, "PENDING_ROWS_MAX", 5)
    store = Store()
    batcher = store.batcher()
    first = asyncio.create_task(batcher.submit([1]))
    await store.began.wait()
    waits = asyncio.create_task(batcher.submit([1] * 4))
    await _turns()
    with pytest.raises(Overloaded):
        await batcher.submit([1, 1])
    fits = asyncio.create_task(batcher.submit([1]))
    await _turns()
    store.may_end.set()
    assert [len(await task) for task in (first, waits, fits)] == [1, 4, 1]


async def test_no_items_need_no_flush() -> None:
    store = Store()
    assert await store.batcher().submit([]) == []
    assert not store.flushed


class Flushed:
    """A flush that keeps what reaches it, and answers each with its fence."""

    def __init__(self) -> None:
        self.items: list[Sequence[Outcome]] = []

    async def flush(self, items: Sequence[Outcome]) -> list[int]:
        """Keeps and answers."""
        self.items.append(items)
        return [item.fence for item in items]

    def batcher(self) -> Batcher[Outcome, int]:
        """A batcher on it."""
        return Batcher(self.flush, size=lambda _: 1, flights=1)


def completed(*fences: int, queue: str = "q") -> CompletedJobs:
    """Completes under these fences."""
    ids = b"".join(bytes([fence]) * JOB_ID_BYTES for fence in fences)
    return CompletedJobs(queue, ids, fences)


async def test_columns_are_cut_into_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "ROWS_MAX", 3)
    flushed = Flushed()
    answers = await flushed.batcher().submit_columns(completed(1, 2, 3, 4, 5))
    assert answers == [1, 2, 3, 4, 5]
    assert [list(items) for items in flushed.items] == [
        list(completed(1, 2, 3)),
        list(completed(4, 5)),
    ]
    assert all(isinstance(items, CompletedJobs) for items in flushed.items)


@pytest.mark.parametrize(
    ("parts", "columns"),
    [
        ([completed(1, 2), completed(3)], True),
        ([completed(1, 2), completed(3, queue="other")], False),
        ([completed(1, 2), list(completed(3))], False),
        ([list(completed(1, 2)), completed(3)], False),
    ],
)
def test_chunks_of_one_sort_that_share_a_flight_stay_columns(
    parts: list[Sequence[Outcome]], columns: bool
) -> None:
    joined = batching._joined(parts)
    assert list(joined) == [item for part in parts for item in part]
    assert isinstance(joined, CompletedJobs) is columns


async def test_columns_are_let_in_as_items_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PENDING_ROWS_MAX", 5)
    flushed = Flushed()
    batcher = flushed.batcher()
    with pytest.raises(Overloaded):
        await batcher.submit_columns(completed(*range(1, 7)))
    assert await batcher.submit_columns(completed(*range(1, 6))) == [1, 2, 3, 4, 5]
    await batcher.close()
    with pytest.raises(ShuttingDown):
        await batcher.submit_columns(completed(1))
    assert len(flushed.items) == 1
