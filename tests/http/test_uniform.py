"""Uniform jobs as JSON, with a server and a database behind it."""

from __future__ import annotations

import uuid
from base64 import b64encode

import httpx

from tests.plugins.server import RunningServer


async def test_uniform_jobs_are_read_as_they_were_sent(server: RunningServer) -> None:
    """Bytes are base64, ids one after the other without anything between; each job has an id as text."""
    ids = [uuid.uuid4() for _ in range(100)]
    payloads = [b"mail %d \xff\0" % n for n in range(100)]
    twin = {"queue": "mail", "kind": "send", "jobId": str(uuid.uuid4()), "payload": "dHdpbg=="}
    shared = {
        "queue": "mail",
        "kind": "send",
        "headers": {"ключ": "значение"},
        "priority": 2,
        "deadline": "90s",
        "retryPolicy": {"maxAttempts": 7},
    }
    many = {
        "shared": shared,
        "jobIds": b64encode(b"".join(each.bytes for each in ids)).decode(),
        "payloads": [b64encode(payload).decode() for payload in payloads],
    }
    few = {
        "shared": shared,
        "jobIds": b64encode(bytes(16) + uuid.UUID(twin["jobId"]).bytes).decode(),
        "payloads": ["", ""],
    }
    bad = many | {"shared": {"queue": "mail"}}
    async with httpx.AsyncClient(base_url=server.http_address) as client:
        assert (await client.post("/v1/queues/mail/jobs", json=twin)).status_code == 200
        body = {"jobs": [twin], "uniform": [many, few, bad]}
        answer = await client.post("/v1/jobs:enqueueBatch", json=body)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["results"] == [{"queue": "mail", "jobId": twin["jobId"]}]
        assert told["uniform"][0] == {"refused": []}
        first, second = told["uniform"][1]["refused"]
        assert first["index"] == 0
        assert first["error"]["message"].startswith("uniform[1].job_ids[0]: must")
        assert second["index"] == 1
        assert second["error"]["details"][0]["reason"] == "JOB_ID_CONFLICT"
        assert told["uniform"][2]["error"]["message"].startswith("uniform[2].shared.kind: must")
        for job_id, payload in list(zip(ids, payloads, strict=True))[::33]:
            job = (await client.get(f"/v1/queues/mail/jobs/{job_id}")).json()["job"]
            assert job["jobId"] == str(job_id)
            assert job["payload"] == b64encode(payload).decode()
            assert {key: job[key] for key in shared} == shared
        listed = (await client.get("/v1/queues/mail/jobs?pageSize=200")).json()["jobs"]
        assert {job["jobId"] for job in listed} == {twin["jobId"], *map(str, ids)}
