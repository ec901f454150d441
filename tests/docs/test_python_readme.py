"""The programs of the Python SDK's README run, and print what they should."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.docs.pages import ROOT
from tests.plugins.server import RunningServer

FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PRINTS = {
    "produce.py": ["b'HELLO'"],
    "produce_async.py": ["b'ONE'", "b'TWO'", "b'THREE'"],
    "once.py": ["True", "the id is taken by another body"],
    "errors.py": ["REJECTED - there is nothing to shout", "job.priority must be 1 to 5"],
    "operate.py": [
        "1 dead letters",
        "a redrive would move 1",
        "a cancel would take 1",
        "shout CANCELLED",
    ],
}
TESTS = ["test_jobs.py", "test_with_a_server.py"]


async def test_the_readme_runs(
    server: RunningServer, migrated_database_url: str, tmp_path: Path
) -> None:
    page = (ROOT / "clients" / "python" / "README.md").read_text()
    files = dict(FILE.findall(page))
    assert set(files) == {*PRINTS, *TESTS, "jobs.py", "conftest.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text.replace("127.0.0.1:7420", server.grpc_address))
    environment = os.environ | {
        "ATLASQUEUE_ADDRESS": server.grpc_address,
        "PYTHONPATH": os.pathsep.join(map(str, [tmp_path, ROOT, ROOT / "clients" / "python"])),
        # A second server on the same database does for the page's own test.
        "ATLASQUEUE_TEST_DATABASE_URL": migrated_database_url,
    }

    async def python(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    worker = await python("-m", "atlasqueue_worker", "run", "jobs:app")
    try:
        async with asyncio.timeout(90):
            for name, promised in PRINTS.items():
                printed, _ = await (await python(name)).communicate()
                assert printed.decode().splitlines() == promised, name
    finally:
        worker.terminate()
        await worker.communicate()
    tested = await python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *TESTS)
    printed, _ = await tested.communicate()
    assert tested.returncode == 0, printed.decode()
