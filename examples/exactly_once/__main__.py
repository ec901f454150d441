"""python -m examples.exactly_once: a worker is paused in the middle of two jobs until another has run them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import psycopg

from atlasqueue import AsyncClient, QueuePolicy
from atlasqueue_server.testing import running_server
from examples.exactly_once.app import QUEUE, SCHEMA
from examples.stage import quiet, say, until, until_exists, worker_process

APP = "examples.exactly_once.app:app"
KINDS = {"charge-naive": 1, "charge-fenced": 2}


async def hold_two(client: AsyncClient, notes: Path) -> list[str]:
    """Both jobs, held up in the first worker; their ids."""
    await client.queues.update_policy(QUEUE, QueuePolicy(visibility_timeout=timedelta(seconds=1)))
    job_ids = [
        await client.enqueue(QUEUE, kind, json.dumps({"order": order}).encode())
        for kind, order in KINDS.items()
    ]
    for kind in KINDS:
        await until_exists(notes / f"{kind}.held")
    return job_ids


async def until_noted(notes: Path, lines: int) -> None:
    """Returns when each kind has run so often."""

    async def noted() -> bool:
        files = [notes / kind for kind in KINDS]
        return all(f.exists() and len(f.read_text().splitlines()) >= lines for f in files)

    await until(f"{lines} runs of each job", noted)


async def run(address: str, notes: Path, settings: dict[str, str]) -> None:
    """Worker A is paused, worker B runs the jobs, then A goes on."""
    async with AsyncClient(address) as client:
        with worker_process(APP, address, "--name", "A", **settings) as late:
            job_ids = await hold_two(client, notes)
            late.send_signal(signal.SIGSTOP)
            say("worker A holds both jobs and is paused; its lease runs out ...")
            try:
                with worker_process(APP, address, "--name", "B", **settings):
                    for job_id in job_ids:
                        await client.wait(job_id, timeout=60)
                say("worker B has run both jobs; worker A goes on where it was")
            finally:
                (notes / "go").touch()
                late.send_signal(signal.SIGCONT)
            await until_noted(notes, 2)
            _end(late)


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    worker.wait(30)


def main() -> int:
    """Sets everything up, runs, and counts the charges."""
    quiet()
    with (
        tempfile.TemporaryDirectory(prefix="exactly-once-") as directory,
        running_server() as server,
    ):
        notes = Path(directory)
        settings = {"SHOP_DATABASE_URL": server.database_url, "SHOP_NOTES": directory}
        with psycopg.connect(server.database_url, autocommit=True) as shop:
            for statement in SCHEMA.split(";"):
                shop.execute(statement.encode())
            shop.execute("insert into shop.orders (id) values (1), (2)")
            asyncio.run(run(server.address, notes, settings))
            rows = shop.execute("select id, charges from shop.orders").fetchall()
        charges: dict[int, int] = dict(rows)
        for kind, order in KINDS.items():
            say(f"{kind}: charged {charges[order]} times")
            for line in (notes / kind).read_text().splitlines():
                say(f"  {line}")
    return 0 if charges == {1: 2, 2: 1} else 1


if __name__ == "__main__":
    sys.exit(main())
