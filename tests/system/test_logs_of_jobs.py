"""At debug every verb logs each job with the same keys, and bodies are in no line, at any level."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atlasqueue import AsyncClient, NewJob
from tests.plugins.processes import Processes
from tests.waiting import eventually

# In the payload, a header, the result, the checkpoint and the message of an error.
SECRET = "s3cret"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "own": SECRET}
ENDS = ["complete", "fail", "reject", "snooze", "release", "cancel"]


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_every_verb_and_no_body(
    processes: Processes, migrated_database_url: str, log_format: str
) -> None:
    options = ("--log-level", "debug", "--log-format", log_format)
    server = processes.server(migrated_database_url, *options)
    worker = processes.worker("tests.system.apps_private:app", server.address, *options)
    async with AsyncClient(server.address) as client:
        jobs = [NewJob("private", end, SECRET.encode(), headers=HEADERS) for end in ENDS]
        ids = await client.enqueue_many(jobs)

        async def settled() -> bool:
            depth = await client.queues.depth("private")
            return (depth.ready, depth.leased) == (0, 0)

        await eventually(settled)
    worker.stop()
    server.stop()
    of_server, of_worker = server.log.read_text(), worker.log.read_text()
    assert SECRET not in of_server + of_worker
    for job_id in ids:
        assert job_id in of_server
        assert job_id in of_worker
    if log_format == "json":
        for end, job_id in zip(ENDS, ids, strict=True):
            _check_job(of_server, end, job_id)
            (line,) = [e for e in _events(of_worker, job_id) if e["event"] == end]
            assert {"queue", "session", "fence", "kind"} <= set(line)
            assert line["trace"] == TRACE


def _check_job(log: str, end: str, job_id: str) -> None:
    by_event = {event["event"]: event for event in reversed(_events(log, job_id))}
    assert {"enqueue", "lease", end} <= set(by_event)
    assert by_event["lease"]["fence"] == by_event[end]["fence"]
    assert by_event["lease"]["session"] > 0
    for verb in ("enqueue", "lease", end):
        assert by_event[verb]["trace"] == TRACE
        assert (by_event[verb]["queue"], by_event[verb]["kind"]) == ("private", end)


def _events(log: str, job_id: str) -> list[dict[str, Any]]:
    lines = [line for line in log.splitlines() if line.startswith("{")]
    return [event for line in lines if (event := json.loads(line)).get("job") == job_id]
