"""The README's quickstart does what it says: its handler, a worker, its producer."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.docs.pages import ROOT
from tests.plugins.server import RunningServer

PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


async def test_the_quickstart_prints_the_result(server: RunningServer, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    handler, producer = PYTHON.findall(readme)
    assert "atlasqueue-worker run jobs:app\n" in readme
    (tmp_path / "jobs.py").write_text(handler)
    (tmp_path / "produce.py").write_text(producer.replace("127.0.0.1:7420", server.grpc_address))
    paths = [tmp_path, ROOT, ROOT / "clients" / "python"]
    environment = os.environ | {
        "ATLASQUEUE_ADDRESS": server.grpc_address,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }

    async def python(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )

    worker = await python("-m", "atlasqueue_worker", "run", "jobs:app")
    try:
        async with asyncio.timeout(60):
            printed, _ = await (await python("produce.py")).communicate()
    finally:
        worker.terminate()
        await worker.communicate()

    promised = re.search(r"print\(.*\)  # (.+)", producer)
    assert promised is not None
    assert printed.decode().strip() == promised[1]
