"""The lines of docs/rest.md and the README's lines for curl work, and print what the pages say."""

from __future__ import annotations

from pathlib import Path

from atlasqueue.v1 import job_pb2, job_service_pb2
from tests.docs.pages import ROOT, Step, run, steps_of
from tests.docs.test_quickstart import readme_worker
from tests.plugins.server import RunningServer

REST = "http://127.0.0.1:7421"


async def test_every_line_of_the_page_works(server: RunningServer, tmp_path: Path) -> None:
    steps = steps_of(ROOT / "docs" / "rest.md", {f"REST={REST}": f"REST={server.http_address}"})
    assert len(steps) > 10

    await run(steps, tmp_path)

    jobs = await server.jobs.ListJobs(job_service_pb2.ListJobsRequest(queue="media"))
    assert sorted(job.state for job in jobs.jobs) == [
        job_pb2.JOB_STATE_SCHEDULED,
        job_pb2.JOB_STATE_READY,
        job_pb2.JOB_STATE_CANCELLED,
    ]


def lines_for_curl(server: RunningServer) -> list[Step]:
    """The README's block; only the address is another."""
    steps = steps_of(ROOT / "README.md", {f"REST={REST}": f"REST={server.http_address}"})
    return [step for step in steps if "curl" in step.commands]


async def test_the_lines_of_the_readme_enqueue_wait_for_and_read_a_job(
    server: RunningServer, tmp_path: Path
) -> None:
    """With the worker of the README's quickstart."""
    (step,) = lines_for_curl(server)
    assert len(step.expected) == 2

    async with readme_worker(server, tmp_path):
        await run([step], tmp_path)
