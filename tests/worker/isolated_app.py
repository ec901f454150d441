"""Handlers that run in subprocesses, for test_subprocess.py."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

from atlasqueue_worker import App, JobContext, Reject, Retry, Snooze

QUEUE = "isolated"
app = App("tests.worker.isolated_app:app")


@app.job("echo", queue=QUEUE, subprocess=True)
def echo(job: JobContext) -> object:
    """What it sees, as JSON."""
    return {
        "payload": job.payload.decode(),
        "fence": job.fence,
        "attempt": job.attempt,
        "headers": job.headers,
        "checkpoint": (job.checkpoint or b"").decode(),
        "time_left": job.time_left,
        "pid": os.getpid(),
    }


@app.job("async-echo", queue=QUEUE, subprocess=True)
async def async_echo(job: JobContext) -> bytes:
    """As a coroutine."""
    await asyncio.sleep(0)
    return job.payload


@app.job("end", queue=QUEUE, subprocess=True)
def end(job: JobContext) -> bytes:
    """Ends as the payload says."""
    match job.payload:
        case b"segfault":
            ctypes.string_at(0)
        case b"exit":
            os._exit(7)
        case b"sys.exit":
            sys.exit("enough")
        case b"interrupt":
            raise KeyboardInterrupt
        case b"kill":
            os.kill(os.getpid(), 9)
        case b"raise":
            raise KeyError("no such thing")
        case b"eof":
            raise EOFError("the file ends")
        case b"retry":
            raise Retry("later", after=3600)
        case b"reject":
            raise Reject("never")
        case b"snooze":
            raise Snooze(60)
    return b""


@app.job("checkpoint-then-die", queue=QUEUE, subprocess=True)
def checkpoint_then_die(job: JobContext) -> bytes:
    """Leaves a checkpoint and progress, then crashes; the second attempt goes on from there."""
    if job.checkpoint:
        return b"went on from " + job.checkpoint
    job.set_progress(40, "at four")
    job.save_checkpoint(b"four")
    os._exit(1)


@app.job("deaf", queue=QUEUE, subprocess=True, kill_after=0.2)
def deaf(job: JobContext) -> None:
    """Holds the GIL for ever, in C, with a program beside it."""
    directory = Path(job.payload.decode())
    # A name of its own, renamed, so that nobody reads half of it.
    beside = subprocess.Popen(["sleep", "1000"])
    (directory / "new").write_text(f"{os.getpid()} {beside.pid}")
    (directory / "new").rename(directory / "pids")
    while True:
        # SIGTERM ends a sleep, not this.
        ctypes.PyDLL(None).sleep(1000)


@app.job("polite", queue=QUEUE, subprocess=True)
def polite(job: JobContext) -> bytes:
    """Ends when it is asked to, with a result."""
    Path(job.payload.decode()).write_text("started")
    while not job.wait_cancelled(1):
        time.sleep(0)
    return b"half of it"


@app.job("slow-async", queue=QUEUE, subprocess=True)
async def slow_async(job: JobContext) -> None:
    """Waits for ever; cancelled as a coroutine."""
    Path(job.payload.decode()).write_text("started")
    await asyncio.Event().wait()


@app.job("stately", queue=QUEUE, subprocess=True, kill_after=60)
def stately(job: JobContext) -> bytes:
    """Tells when it hears of its lease, and ends when it is asked to stop, with what it and a program were told."""
    beside = subprocess.Popen(["sleep", "1000"])
    print("its own words")
    job.set_progress(1)
    while job.lease_state == "certain":
        time.sleep(0.01)
    job.set_progress(2)
    job.wait_cancelled()
    return f"{job.lease_state}, draining: {job.draining}, program: {beside.wait()}".encode()
