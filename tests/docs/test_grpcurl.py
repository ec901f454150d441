"""The lines of docs/grpcurl.md work, in their order, and print what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlasqueue.v1 import job_pb2, job_service_pb2
from tests.docs.pages import ROOT, find_tool, run, steps_of
from tests.plugins.server import RunningServer


async def test_every_line_of_the_page_works(server: RunningServer, tmp_path: Path) -> None:
    if find_tool("grpcurl") is None:
        pytest.skip("grpcurl is not installed; `make tools` installs it")
    steps = steps_of(ROOT / "docs" / "grpcurl.md", {"127.0.0.1:7420": server.grpc_address})
    assert len(steps) > 15

    await run(steps, tmp_path)

    jobs = await server.jobs.ListJobs(job_service_pb2.ListJobsRequest(queue="media"))
    assert sorted(job.state for job in jobs.jobs) == [
        job_pb2.JOB_STATE_SCHEDULED,
        job_pb2.JOB_STATE_SUCCEEDED,
        job_pb2.JOB_STATE_CANCELLED,
    ]
