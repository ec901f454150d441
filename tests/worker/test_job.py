"""What a handler hears of a stop, whenever it begins to listen."""

from __future__ import annotations

import asyncio

import pytest

from atlasqueue_worker import Cancel, Release
from atlasqueue_worker.job import CHECKPOINT_BYTES_MAX
from tests.worker.scripted import WITHIN_S, job


@pytest.mark.parametrize("before", [False, True])
async def test_who_waits_for_a_cancel_hears_it(before: bool) -> None:
    asked = job()
    if before:
        asked.cancel()
    waits = asyncio.create_task(asked.cancellation())
    in_thread = asyncio.create_task(asyncio.to_thread(asked.wait_cancelled, WITHIN_S))
    if not before:
        await asyncio.sleep(0)
        assert not asked.wait_cancelled(0)
        await asyncio.to_thread(asked.cancel)
    async with asyncio.timeout(WITHIN_S):
        await waits
        assert await in_thread


def test_a_drain_after_a_cancel_is_a_cancel() -> None:
    """The job would go back to ready, whose cancel was requested."""
    cancelled, drained = job(), job()
    cancelled.cancel()
    for asked in (cancelled, drained):
        asked.drain()
    with pytest.raises(Cancel):
        cancelled.raise_if_cancelled()
    with pytest.raises(Release):
        drained.raise_if_cancelled()


def test_a_checkpoint_has_its_bound() -> None:
    saving = job()
    saving.save_checkpoint(b"x" * CHECKPOINT_BYTES_MAX)
    with pytest.raises(ValueError, match="at most 65536 bytes, not 65537"):
        saving.save_checkpoint(b"x" * (CHECKPOINT_BYTES_MAX + 1))
