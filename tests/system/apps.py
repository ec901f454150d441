"""Handlers for worker processes of the tests."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path

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


weather = App()
NOTES = Path(os.environ.get("ATLASQUEUE_TEST_NOTES", os.devnull))


def note(job: JobContext, text: str) -> None:
    """Tells the test what a handler saw: a line of JSON, appended whole."""
    line = json.dumps({"job": job.job_id, "delivery": job.deliveries, "saw": text})
    with NOTES.open("a") as file:
        file.write(line + "\n")


@weather.job("until-released", queue="long")
async def until_released(job: JobContext) -> bytes:
    """Runs until a file named `go` stands beside the notes."""
    note(job, "started")
    while not (NOTES.parent / "go").exists():
        await asyncio.sleep(0.1)
    return b"delivery %d" % job.deliveries


@weather.job("stubborn", queue="stubborn")
def stubborn(job: JobContext) -> bytes:
    """The first delivery waits until it is told to stop, says what it was told, and completes anyway."""
    note(job, f"started {job.fence}")
    if job.deliveries == 1:
        job.wait_cancelled()
        note(job, f"told {job.lease_state}")
    return b"delivery %d" % job.deliveries


@weather.job("abort", queue="doomed")
def abort(job: JobContext) -> None:
    """Takes its worker with it."""
    os.abort()


@weather.job("hang", queue="hung")
def hang(job: JobContext) -> bytes:
    """The first delivery hangs, and listens to nobody."""
    if job.deliveries == 1:
        while True:
            time.sleep(60)
    return b"ran again"


@weather.job("quick", queue="busy")
async def quick_too(job: JobContext) -> bytes:
    """Succeeds after a moment."""
    await asyncio.sleep(0.005)
    return job.payload


ending = App()


@ending.job("stay", queue="ending")
def stay(job: JobContext) -> None:
    """Never ends, in its thread."""
    threading.Event().wait()


@ending.job("stop-loop", queue="ending")
async def stop_loop(job: JobContext) -> None:
    """Stops what it runs in."""
    asyncio.get_running_loop().stop()


@ending.job("interrupt", queue="ending")
async def interrupt(job: JobContext) -> None:
    """As Ctrl-C does, where nobody takes signals."""
    raise KeyboardInterrupt
