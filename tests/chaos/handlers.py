"""The handlers of the chaos runs: each does what its job's payload says, so that a seed decides.

atlasqueue-worker run tests.chaos.handlers:app
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from atlasqueue_worker import App, JobContext, Reject, Snooze
from tests.chaos.hooks import record_worker
from tests.chaos.names import DIRECTORY_VARIABLE, QUEUE

SNOOZE_S = 0.2

record_worker()
app = App()


def result_of(job: JobContext) -> str:
    """Tells the runs of one job apart, so that the run whose result is stored can be named."""
    return f"{job.job_id}:{job.fence}"


@app.job("work", queue=QUEUE)
async def work(job: JobContext) -> str:
    """Takes its time; a first run may fail, be snoozed or be rejected."""
    script = job.json()
    await asyncio.sleep(script["ms"] / 1000)
    if job.deliveries == 1 and script["first"] == "fail":
        raise RuntimeError("this run was told to fail")
    if job.deliveries == 1 and script["first"] == "snooze":
        raise Snooze(SNOOZE_S)
    if job.deliveries == 1 and script["first"] == "reject":
        raise Reject("this run was told to be rejected")
    return result_of(job)


@app.job("hold", queue=QUEUE)
async def hold(job: JobContext) -> str:
    """Runs until the test opens the gate (a file in the history's directory)."""
    gate = Path(os.environ[DIRECTORY_VARIABLE]) / job.json()["gate"]
    while not gate.exists():
        await asyncio.sleep(0.1)
    return result_of(job)


@app.job("abort", queue=QUEUE)
async def abort(job: JobContext) -> str:
    """Kills its worker, whenever and wherever it runs."""
    os.abort()


@app.job("block", queue=QUEUE)
async def block(job: JobContext) -> str:
    """Blocks the event loop, as a handler should not."""
    time.sleep(job.json()["seconds"])
    return result_of(job)
