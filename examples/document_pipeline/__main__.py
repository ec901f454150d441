"""python -m examples.document_pipeline [DIRECTORY]: every Markdown file below it, and three broken ones."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from atlasqueue import AsyncClient, NewJob
from atlasqueue_server.testing import running_server
from examples.document_pipeline.app import QUEUE
from examples.document_pipeline.steps import analyse, extract
from examples.stage import quiet, say, until_idle, worker_process

APP = "examples.document_pipeline.app:app"


def break_some(directory: Path) -> list[Path]:
    """Three files that cannot be read as text."""
    picture, empty, missing = (directory / f"{n}.md" for n in ("picture", "empty", "missing"))
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    empty.write_text("\n")
    return [picture, empty, missing]


async def run(address: str, documents: list[Path], broken: list[Path], output: Path) -> int:
    """Enqueues, waits, shows the dead letters, mends them, and checks all results."""
    async with AsyncClient(address) as client:
        paths = documents + broken
        jobs = [
            NewJob(QUEUE, "extract", json.dumps({"path": str(path)}).encode()) for path in paths
        ]
        await client.enqueue_many(jobs)
        say(f"enqueued {len(jobs)} documents, {len(broken)} of them broken")
        await until_idle(client, QUEUE)
        depth = await client.queues.depth(QUEUE)
        say(f"{depth.succeeded} steps succeeded, {depth.dead} are dead letters:")
        async for dead in client.dead_letters.list(QUEUE):
            say(f"  {dead.dead_letter_reason.name}: {dead.failures[-1].message}")
        for path in broken:
            path.write_text(f"# {path.stem} mended\n\nSomebody wrote something sensible here.\n")
        moved = await client.dead_letters.redrive(QUEUE)
        say(f"mended the files and redrove {moved}")
        await until_idle(client, QUEUE)
        left = (await client.queues.depth(QUEUE)).dead
    wrong = [path.name for path in paths if entry(output, path) != analyse(extract(path))]
    say(
        f"{len(paths) - len(wrong)} entries are what a direct computation gives, {len(wrong)} differ"
    )
    return 1 if wrong or left or moved != len(broken) else 0


def entry(output: Path, path: Path) -> object:
    """What the pipeline found out about a document."""
    found = output / f"{path.name}.json"
    return json.loads(found.read_text()) if found.exists() else None


def main() -> int:
    """Sets everything up, runs, takes it down."""
    quiet()
    default = Path(__file__).parents[2] / "docs"
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    # Entries are named by file name: one document a name.
    documents = list({path.name: path for path in sorted(source.rglob("*.md"))}.values())
    if not documents:
        say(f"there are no .md files below {source}")
        return 2
    with tempfile.TemporaryDirectory(prefix="pipeline-") as directory:
        output = Path(directory) / "out"
        output.mkdir()
        broken = break_some(Path(directory))
        say("starting PostgreSQL, a server and two workers ...")
        with (
            running_server() as server,
            worker_process(APP, server.address, PIPELINE_OUTPUT=str(output)),
            worker_process(APP, server.address, PIPELINE_OUTPUT=str(output)),
        ):
            return asyncio.run(run(server.address, documents, broken, output))


if __name__ == "__main__":
    sys.exit(main())
