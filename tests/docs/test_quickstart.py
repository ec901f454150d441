"""The README's quickstart does what it says: its handler, a worker, its producer."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.docs.pages import ROOT
from tests.plugins.server import RunningServer

PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


async def python(
    server: RunningServer, directory: Path, *arguments: str
) -> asyncio.subprocess.Process:
    """A Python that finds the SDK, the server's address and what is in the directory."""
    paths = [directory, ROOT, ROOT / "clients" / "python"]
    environment = os.environ | {
        "ATLASQUEUE_ADDRESS": server.grpc_address,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=directory, env=environment, stdout=asyncio.subprocess.PIPE
    )


@asynccontextmanager
async def readme_worker(server: RunningServer, directory: Path) -> AsyncIterator[None]:
    """The README's worker with its handler."""
    readme = (ROOT / "README.md").read_text()
    assert "atlasqueue-worker run jobs:app\n" in readme
    (directory / "jobs.py").write_text(PYTHON.findall(readme)[0])
    worker = await python(server, directory, "-m", "atlasqueue_worker", "run", "jobs:app")
    try:
        yield
    finally:
        worker.terminate()
        await worker.communicate()


async def test_the_quickstart_prints_the_result(server: RunningServer, tmp_path: Path) -> None:
    _, producer = PYTHON.findall((ROOT / "README.md").read_text())
    (tmp_path / "produce.py").write_text(producer.replace("127.0.0.1:7420", server.grpc_address))
    async with readme_worker(server, tmp_path), asyncio.timeout(60):
        printed, _ = await (await python(server, tmp_path, "produce.py")).communicate()

    promised = re.search(r"print\(.*\)  # (.+)", producer)
    assert promised is not None
    assert printed.decode().strip() == promised[1]
