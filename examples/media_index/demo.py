"""`make demo`: real files, a real server, two workers in processes of their own, every result checked.

embedded PostgreSQL ◀── atlasqueue-server ◀──┬── this program: enqueues, watches, verifies
                                             ├── atlasqueue-worker 1
                                             └── atlasqueue-worker 2
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from atlasqueue import AsyncClient, Job, JobState, NewJob, RetryPolicy, Unavailable
from atlasqueue_server.embedded import EmbeddedPostgres
from atlasqueue_server.embedded.ports import free_ports
from examples.media_index.index import index_file, source_files

QUEUE = "media-index"
KIND = "index-file"
WORKERS = 2
SLOTS = 8
# Every 40th file fails once and is retried; every 500th fails always and becomes a dead letter.
FAIL_ONCE_EVERY = 40
FAIL_ALWAYS_EVERY = 500
GONE = "/no/such/file.py"
TIMEOUT_S = 300
RETRY = RetryPolicy(
    max_attempts=3, initial_backoff=timedelta(milliseconds=200), max_backoff=timedelta(seconds=1)
)

console = Console()


def orders() -> list[dict[str, str]]:
    """One order a file, some of them made to fail."""
    made: list[dict[str, str]] = []
    for number, path in enumerate(source_files(), start=1):
        order = {"path": str(path)}
        if number % FAIL_ALWAYS_EVERY == 0:
            order["trouble"] = "always"
        elif number % FAIL_ONCE_EVERY == 0:
            order["trouble"] = "once"
        made.append(order)
    return [*made, {"path": GONE}]


def dies(order: dict[str, str]) -> bool:
    """Whether an order must end as a dead letter."""
    return order.get("trouble") == "always" or order["path"] == GONE


@contextlib.contextmanager
def process(name: str, log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that is stopped at the end; what it printed is in `log`."""
    environment = os.environ | {"ATLASQUEUE_LOG_LEVEL": "warning"}
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=output, stderr=output, env=environment
        )
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                console.print(f"[red]{name} did not stop, killing it")
                child.kill()
                child.wait()


async def until_serving(client: AsyncClient, server: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the server answers."""
    for _ in range(100):
        if server.poll() is not None:
            raise SystemExit(f"the server did not start:\n{log.read_text()}")
        with contextlib.suppress(Unavailable):
            await client.cluster()
            return
        await asyncio.sleep(0.1)
    raise SystemExit(f"the server does not answer:\n{log.read_text()}")


async def settled(client: AsyncClient, total: int, progress: Progress) -> float:
    """Waits until every job has succeeded or died; the seconds it took."""
    started = time.monotonic()
    bar = progress.add_task("jobs done", total=total)
    while time.monotonic() < started + TIMEOUT_S:
        depth = await client.queues.depth(QUEUE)
        progress.update(bar, completed=depth.succeeded + depth.dead)
        if depth.succeeded + depth.dead == total:
            return time.monotonic() - started
        await asyncio.sleep(0.2)
    raise SystemExit(f"not all jobs were done within {TIMEOUT_S} s")


async def read_all(client: AsyncClient, job_ids: list[str]) -> list[Job]:
    """Every job as the server knows it."""
    room = asyncio.Semaphore(32)

    async def read(job_id: str) -> Job:
        async with room:
            return await client.get(job_id, queue=QUEUE)

    return await asyncio.gather(*map(read, job_ids))


def differences(made: list[dict[str, str]], jobs: list[Job]) -> list[str]:
    """Where the queue's outcome is not what direct computation gives."""
    wrong = []
    for order, job in zip(made, jobs, strict=True):
        if dies(order):
            if job.state is not JobState.DEAD:
                wrong.append(f"{order['path']} should be a dead letter, is {job.state.name}")
        elif job.state is not JobState.SUCCEEDED:
            wrong.append(f"{order['path']} should have succeeded, is {job.state.name}")
        elif json.loads(job.result) != json.loads(json.dumps(index_file(Path(order["path"])))):
            wrong.append(f"{order['path']} has another index entry than a direct computation gives")
        elif order.get("trouble") == "once" and job.attempt != 1:
            wrong.append(f"{order['path']} should have failed once, failed {job.attempt} times")
    return wrong


def summary(jobs: list[Job], seconds: float, wrong: list[str]) -> Table:
    """The figures of the run."""
    table = Table(title="AtlasQueue demo", show_header=False)
    rows = {
        "jobs": len(jobs),
        "jobs/s": f"{len(jobs) / seconds:,.0f} (two workers parsing real files)",
        "retries": sum(job.deliveries - 1 for job in jobs),
        "dead letters": sum(job.state is JobState.DEAD for job in jobs),
        "verified results": len(jobs) - len(wrong),
        "differences": len(wrong),
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


async def drive(client: AsyncClient) -> int:
    """Enqueues, waits, verifies; the exit code."""
    made = orders()
    columns = (
        TextColumn("{task.description:>16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        enqueued = progress.add_task("jobs enqueued", total=len(made))
        jobs = [
            NewJob(QUEUE, KIND, payload=json.dumps(order).encode(), retry_policy=RETRY)
            for order in made
        ]
        job_ids = await client.enqueue_many(
            jobs, progress=lambda done: progress.update(enqueued, completed=done)
        )
        seconds = await settled(client, len(made), progress)
    console.print("comparing every result with a direct computation ...")
    found = await read_all(client, job_ids)
    wrong = differences(made, found)
    console.print(summary(found, seconds, wrong))
    for line in wrong[:20]:
        console.print(f"[red]{line}")
    return 1 if wrong else 0


async def run(database_url: str, logs: Path) -> int:
    """Starts server and workers around `drive`."""
    grpc_port, http_port = free_ports(2)
    address = f"127.0.0.1:{grpc_port}"
    server_log = logs / "server.log"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            process(
                "server",
                server_log,
                *("atlasqueue_server", "serve", "--database-url", database_url),
                *("--grpc-port", str(grpc_port), "--http-port", str(http_port)),
            )
        )
        async with AsyncClient(address) as client:
            await until_serving(client, server, server_log)
            for number in range(1, WORKERS + 1):
                stack.enter_context(
                    process(
                        f"worker {number}",
                        logs / f"worker-{number}.log",
                        *("atlasqueue_worker", "run", "examples.media_index.app:app"),
                        *("--server", address, "--slots", str(SLOTS), "--name", f"demo-{number}"),
                    )
                )
            return await drive(client)


def main() -> int:
    """Sets everything up, runs, and takes it down again."""
    from atlasqueue_server.store.migrations import migrate

    with tempfile.TemporaryDirectory(prefix="atlasqueue-demo-") as directory:
        data = Path(directory) / "postgres"
        progress = lambda line: console.print(f"[dim]{line}")  # noqa: E731
        with EmbeddedPostgres(data, temporary=True, on_progress=progress) as postgres:
            asyncio.run(migrate(postgres.url))
            code = asyncio.run(run(postgres.url, Path(directory)))
    console.print("stopped everything" if code == 0 else "[red]the demo failed")
    return code


if __name__ == "__main__":
    sys.exit(main())
