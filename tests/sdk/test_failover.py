"""A client that knows several servers leaves the one that does not answer, however many calls fail on it."""

from __future__ import annotations

import asyncio

import pytest

from atlasqueue import AsyncClient
from atlasqueue.async_calls import AsyncCalls
from tests.plugins.server import RunningServer

CALLS = 4


async def test_calls_that_fail_together_leave_together(server: RunningServer) -> None:
    """How it showed: with a silent server and a good one, producers that shared a client were stuck until
    their calls gave up: each failed call turned to the next server, an even number of them back to the
    silent one."""

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    try:
        async with AsyncClient(
            [f"127.0.0.1:{port}", server.grpc_address], timeout=0.5, retry_for=15
        ) as client:
            job_ids = await asyncio.gather(*(client.enqueue("work", "k") for _ in range(CALLS)))
        assert len(set(job_ids)) == CALLS
    finally:
        silent.close()


@pytest.mark.parametrize("failed", [1, 2, 3, 4])
async def test_the_first_that_fails_leaves_and_the_others_follow(failed: int) -> None:
    calls = AsyncCalls(["127.0.0.1:1", "127.0.0.1:2"], tls=None, timeout=1, retry_for=1)
    stubs = calls.stubs()
    for _ in range(failed):
        calls.leave(stubs)
    assert calls.stubs() is not stubs
    await calls.close()
