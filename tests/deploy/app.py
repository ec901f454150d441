"""Handlers that end in every way."""

from __future__ import annotations

import asyncio

from atlasqueue_worker import App, JobContext, Reject, Release, Snooze

app = App()


@app.job("good", queue="ends")
async def good(job: JobContext) -> bytes:
    """Succeeds."""
    return job.payload


@app.job("flaky", queue="ends")
async def flaky(job: JobContext) -> None:
    """Fails once."""
    if job.attempt == 0:
        raise RuntimeError("the first attempt fails on purpose")


@app.job("doomed", queue="ends")
async def doomed(job: JobContext) -> None:
    """Dies."""
    raise Reject("on purpose")


@app.job("sleepy", queue="ends")
async def sleepy(job: JobContext) -> None:
    """Is snoozed, then released, then succeeds."""
    if job.deliveries == 1:
        raise Snooze(0.1)
    if job.deliveries == 2:
        raise Release


@app.job("held", queue="held")
async def held(job: JobContext) -> None:
    """Never ends."""
    await asyncio.Event().wait()
