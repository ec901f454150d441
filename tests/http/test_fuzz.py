"""A fuzz of the HTTP side from its own document: no 5xx, and every answer as documented."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from atlasqueue.v1 import job_pb2, job_service_pb2, worker_service_pb2
from atlasqueue_server.http.rules import rules_of
from tests.plugins.server import RunningServer
from tests.rpc.fakes import JOBS, QUEUES

QUEUE = "fuzz"
HOOKS = Path(__file__).with_name("fuzz_hooks.py")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,unsupported_method,allow_header_conformance"
)


async def enqueue(server: RunningServer, **fields: Any) -> str:
    """The id of a new job."""
    job = job_pb2.NewJob(queue=QUEUE, kind="k", payload=b"\x00\xff", headers={"a": "é"}, **fields)
    return str((await server.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=job))).job_id)


async def lease(server: RunningServer) -> tuple[int, dict[str, Any]]:
    """A session, and the job that it holds."""
    request = worker_service_pb2.LeaseOnceRequest(
        queues=[QUEUE], worker="w", wait=Duration(seconds=10)
    )
    leased = await server.workers.LeaseOnce(request)
    (job,) = leased.jobs
    lease = {"queue": QUEUE, "job_id": job.job_id, "fence": job.fence}
    return leased.session.session_id, lease


async def report(server: RunningServer, lease: dict[str, Any], **outcome: Any) -> None:
    """Ends a lease."""
    told = worker_service_pb2.JobOutcome(**lease, **outcome)
    await server.workers.Report(worker_service_pb2.ReportRequest(outcomes=[told]))


async def every_state(server: RunningServer) -> dict[str, Any]:
    """Jobs in every state, with all that can be known of one."""
    error = job_pb2.JobError(type="T", message="m", stack="s")
    succeeded = await enqueue(server, retry_policy=job_pb2.RetryPolicy(multiplier=1.5))
    _, held = await lease(server)
    await report(server, held, complete=worker_service_pb2.Complete(result=b"done"))
    dead = await enqueue(server)
    _, held = await lease(server)
    await report(server, held, reject=worker_service_pb2.Reject(error=error))
    leased = await enqueue(server, deadline=Duration(seconds=600))
    session_id, held = await lease(server)
    alive = worker_service_pb2.HeldJob(
        **held, progress=job_pb2.Progress(percent=5, note="n"), checkpoint=b"c"
    )
    await server.workers.Heartbeat(
        worker_service_pb2.HeartbeatRequest(session_id=session_id, epoch=1, held=[alive])
    )
    cancelled = await enqueue(server)
    await server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=cancelled))
    scheduled = await enqueue(server, run_at=Timestamp(seconds=2_000_000_000))
    ready = await enqueue(server)
    missing = str(uuid.uuid4())
    return {
        "queue": QUEUE,
        "jobs": [succeeded, dead, leased, cancelled, scheduled, ready, missing],
        "settled": [succeeded, cancelled, missing],
    }


async def fuzz(server: RunningServer, directory: Path, *options: str) -> None:
    """Runs schemathesis against the document that the server serves."""
    known = await every_state(server)
    schemathesis = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        f"{server.http_address}/openapi.json",
        *("--checks", CHECKS, "--phases", "coverage,fuzzing", "--seed", "7"),
        *("--generation-database", "none", "--output-sanitize", "false", "--no-color"),
        *("--request-timeout", "100", "--warnings", "off", *options),
        cwd=directory,
        env=os.environ
        | {"SCHEMATHESIS_HOOKS": str(HOOKS), "ATLASQUEUE_FUZZ_KNOWN": json.dumps(known)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await schemathesis.communicate()
    finally:
        if schemathesis.returncode is None:
            schemathesis.kill()
    assert schemathesis.returncode == 0, output.decode()
    assert not never_past_the_checks(server), output.decode()


def never_past_the_checks(server: RunningServer) -> list[str]:
    """RPCs with a path of which all calls were INVALID_ARGUMENT: the fuzz would prove little of them.

    Not OK alone: what one call does to a job, as CancelJobs to all of them, decides what the next can.
    """
    registry = server.application.metrics.registry
    return [
        name
        for service in (JOBS, QUEUES)
        for rpc in service.methods
        if list(rules_of(rpc))
        for name in [f"{service.name}/{rpc.name}"]
        if not any(
            registry.get_sample_value(
                "atlasqueue_rpc_calls_total", {"rpc": name, "transport": "http", "code": code}
            )
            for code in ("OK", "NOT_FOUND", "FAILED_PRECONDITION")
        )
    ]


@pytest.mark.timeout(600)
async def test_nothing_sent_by_the_document_is_a_server_error_or_answered_otherwise(
    server: RunningServer, tmp_path: Path
) -> None:
    """How it showed: a parameter without a name was refused without naming a field."""
    await fuzz(server, tmp_path, "--max-examples", "6")


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_nothing_of_many_requests_is_either(server: RunningServer, tmp_path: Path) -> None:
    await fuzz(server, tmp_path, "--max-examples", "150", "--continue-on-failure")
