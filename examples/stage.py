"""What the examples share: worker processes, waiting, and a line of output at a time."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from atlasqueue import AsyncClient
from atlasqueue_worker.cli import configure_logs

TIMEOUT_S = 60.0


def quiet() -> None:
    """Keeps the logs of a server in this process to errors, so that the example itself is read."""
    configure_logs("error", "console")


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)


@contextmanager
def worker_process(
    application: str, address: str, *options: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`atlasqueue-worker run` in a process of its own, drained at the end."""
    command = [sys.executable, "-m", "atlasqueue_worker", "run", application]
    command += ["--server", address, *options]
    with process(command, address, ATLASQUEUE_LOG_LEVEL="error", **environment) as worker:
        yield worker


@contextmanager
def process(
    command: Sequence[str | Path], address: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that finds the server by ATLASQUEUE_ADDRESS and drains when it is terminated."""
    started = subprocess.Popen(
        command, env=os.environ | {"ATLASQUEUE_ADDRESS": address} | environment
    )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def go_program(package: str) -> Iterator[Path]:
    """A Go program of the examples, built. Ends the example when it cannot be.

    Go's own cache makes a repeat cheap; the first build on a machine fetches modules and takes minutes.
    """
    if shutil.which("go") is None:
        raise SystemExit("this example needs Go: https://go.dev/doc/install")
    with tempfile.TemporaryDirectory(prefix="atlasqueue-go-") as directory:
        program = Path(directory) / Path(package).name
        built = subprocess.run(
            ["go", "build", "-buildvcs=false", "-o", program, f"./{package}"],
            cwd=Path(__file__).parent,
            env=os.environ | {"GOTOOLCHAIN": "auto"},
            check=False,
        )
        if built.returncode:
            raise SystemExit("go build failed")
        yield program


async def until(what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    """Returns when the condition holds. Ends the example when it does not within a minute."""
    give_up_at = time.monotonic() + TIMEOUT_S
    while not await condition():
        if time.monotonic() > give_up_at:
            raise SystemExit(f"not within {TIMEOUT_S:.0f} s: {what}")
        await asyncio.sleep(0.1)


async def until_idle(client: AsyncClient, queue: str) -> None:
    """Returns when no job of the queue waits or runs."""

    async def idle() -> bool:
        depth = await client.queues.depth(queue)
        return depth.scheduled + depth.ready + depth.leased == 0

    await until(f"queue {queue} is worked off", idle)


async def until_exists(path: Path) -> None:
    """Returns when there is such a file."""

    async def exists() -> bool:
        return path.exists()

    await until(f"{path.name} is there", exists)
