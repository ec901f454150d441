"""The write timeout: which writes are cut, and that nothing else is."""

from __future__ import annotations

import asyncio

import pytest

from atlasqueue_server.rpc.write_watch import WriteWatch
from tests.waiting import eventually_so


async def test_a_write_that_nobody_reads_is_cut() -> None:
    with pytest.raises(TimeoutError):
        await WriteWatch(0.01).within(asyncio.Event().wait())


async def test_each_of_several_is_cut_and_others_go_on() -> None:
    watch = WriteWatch(0.05)
    read = asyncio.Event()
    quick = asyncio.create_task(watch.within(read.wait()))
    slow = [asyncio.create_task(watch.within(asyncio.Event().wait())) for _ in range(2)]
    read.set()
    done = await asyncio.gather(quick, *slow, return_exceptions=True)
    assert [type(outcome) for outcome in done] == [type(None), TimeoutError, TimeoutError]


async def test_a_write_that_begins_while_the_timer_runs_gets_its_whole_time() -> None:
    watch = WriteWatch(3600.0)
    first = asyncio.create_task(watch.within(asyncio.Event().wait()))
    await eventually_so(lambda: watch._timer)
    second = asyncio.create_task(watch.within(asyncio.Event().wait()))
    await eventually_so(lambda: len(watch._writes) == 2)
    # As if the first had begun an hour ago.
    watch._writes[first] -= 3600.0
    watch._look()
    with pytest.raises(TimeoutError):
        await first
    assert list(watch._writes) == [second]
    assert watch._timer is not None
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    watch._timer.cancel()


async def test_a_cancellation_stays_one_and_a_task_that_was_cut_is_not_cancelled() -> None:
    watch = WriteWatch(3600.0)

    async def stream() -> str:
        with pytest.raises(TimeoutError):
            await watch.within(asyncio.Event().wait())
        await asyncio.sleep(0)
        return "closed in order"

    task = asyncio.create_task(stream())
    await eventually_so(lambda: watch._writes)
    watch._writes[task] -= 3600.0
    watch._look()
    assert await task == "closed in order"
    assert task.cancelling() == 0
    assert (watch._writes, watch._cut, watch._timer) == ({}, set(), None)


async def test_a_cancellation_beside_the_cut_is_not_swallowed() -> None:
    watch = WriteWatch(3600.0)
    task = asyncio.create_task(watch.within(asyncio.Event().wait()))
    await eventually_so(lambda: watch._writes)
    watch._writes[task] -= 3600.0
    watch._look()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
