"""python -m examples.web_app: a shop takes orders, some of which fail after their job was enqueued."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psycopg
import uvicorn

from atlasqueue import AsyncClient
from atlasqueue_server.testing import running_server
from examples.stage import quiet, say, until, until_idle, worker_process
from examples.web_app.web import QUEUE, SCHEMA, web

STOCK = 25
ORDERS = 40


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The shop, under the address that it listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(web, log_level="error"))
        task = asyncio.create_task(server.serve(sockets=[listener]))

        async def started() -> bool:
            return server.started

        await until("the shop listens", started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def run(address: str) -> int:
    """Orders, waits for the jobs, and compares orders with jobs."""
    async with (
        serving() as shop,
        AsyncClient(address) as queue,
        httpx.AsyncClient(base_url=shop) as http,
    ):
        order = {"item": "lamp", "quantity": 1}
        answers = await asyncio.gather(*(http.post("/orders", json=order) for _ in range(ORDERS)))
        codes = Counter(answer.status_code for answer in answers)
        say(
            f"{ORDERS} orders: {codes[201]} taken, {codes[409]} refused after their job was enqueued"
        )
        await until_idle(queue, QUEUE)
        depth = await queue.queues.depth(QUEUE)
        say(f"{depth.succeeded} jobs ran, {depth.dead} failed")
        ids = [answer.json()["id"] for answer in answers if answer.status_code == 201]
        shown = await asyncio.gather(*(http.get(f"/orders/{i}") for i in ids))
        confirmed = sum(answer.json()["confirmed"] for answer in shown)
        say(f"{confirmed} orders are confirmed")
    return 0 if codes[201] == depth.succeeded == confirmed == STOCK and not depth.dead else 1


def main() -> int:
    """Sets everything up, runs, takes it down."""
    quiet()
    with running_server() as server:
        os.environ["SHOP_DATABASE_URL"] = server.database_url
        with psycopg.connect(server.database_url) as shop:
            for statement in SCHEMA:
                shop.execute(statement.encode())
            shop.execute("insert into shop.stock values ('lamp', %s)", [STOCK])
        with worker_process("examples.web_app.app:app", server.address):
            return asyncio.run(run(server.address))


if __name__ == "__main__":
    sys.exit(main())
