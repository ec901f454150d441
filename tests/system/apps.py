"""Handlers for worker processes of the tests."""

from __future__ import annotations

import asyncio

from atlasqueue_worker import App, JobContext

app = App()


@app.job("hold-once", queue="held")
async def hold_once(job: JobContext) -> bytes:
    """The first delivery never ends by itself; a later one succeeds at once."""
    if job.deliveries == 1:
        await asyncio.Event().wait()
    return b"ran again"


@app.job("quick", queue="busy")
async def quick(job: JobContext) -> bytes:
    """Succeeds at once."""
    return job.payload
