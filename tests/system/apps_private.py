"""Handlers, one for each way to end, that know a secret."""

from __future__ import annotations

from atlasqueue_worker import App, Cancel, JobContext, Reject, Release, Snooze

app = App()


@app.job("complete", queue="private")
async def complete(job: JobContext) -> bytes:
    return job.payload


@app.job("fail", queue="private")
async def fail(job: JobContext) -> None:
    job.save_checkpoint(job.payload)
    raise ValueError(job.payload.decode())


@app.job("reject", queue="private")
def reject(job: JobContext) -> None:
    raise Reject(job.payload.decode())


@app.job("snooze", queue="private")
async def snooze(job: JobContext) -> None:
    raise Snooze(3600)


@app.job("release", queue="private")
async def release(job: JobContext) -> None:
    if job.deliveries == 1:
        raise Release()


@app.job("cancel", queue="private")
async def cancel(job: JobContext) -> None:
    raise Cancel(job.payload.decode())
