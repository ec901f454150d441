"""The shop's workers: they confirm orders."""

from __future__ import annotations

import os

import psycopg

from atlasqueue_worker import App, JobContext, Reject
from examples.web_app.web import KIND, QUEUE

app = App()


@app.job(KIND, queue=QUEUE)
async def confirm_order(job: JobContext) -> None:
    """Marks the order; doing it twice does no harm."""
    order = job.json()["order"]
    async with await psycopg.AsyncConnection.connect(os.environ["SHOP_DATABASE_URL"]) as shop:
        done = await shop.execute("update shop.orders set confirmed = true where id = %s", [order])
    if done.rowcount == 0:
        # Cannot happen: the job was committed with its order.
        raise Reject(f"there is no order {order}")
