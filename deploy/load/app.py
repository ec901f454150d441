"""Handlers that behave like real ones: most jobs succeed, some fail and are retried, a few never can.

atlasqueue-worker run deploy.load.app:app --server 127.0.0.1:7420
"""

from __future__ import annotations

import asyncio

from atlasqueue_worker import App, JobContext, Reject

app = App()
QUEUES = ("mail", "media")


class Flaky(Exception):
    """Stands for whatever goes away when it is tried again."""


async def work(job: JobContext) -> dict[str, int]:
    """Takes as long as the order says, and ends as it says."""
    order = job.json()
    await asyncio.sleep(order["milliseconds"] / 1000)
    if order["outcome"] == "retry" and job.attempt == 0:
        raise Flaky("the first attempt fails on purpose")
    if order["outcome"] == "die":
        raise Reject("rejected on purpose: retrying cannot help")
    return {"attempt": job.attempt}


app.job("send-mail", queue="mail")(work)
app.job("resize", queue="media")(work)
