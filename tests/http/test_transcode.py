"""REST requests become the contract's messages, and answers become JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from atlasqueue.v1 import job_pb2
from atlasqueue.v1 import job_service_pb2 as jobs_pb
from atlasqueue.v1 import queue_service_pb2 as queues_pb
from atlasqueue_server.model import errors, limits
from tests.http.conftest import World
from tests.rpc.fakes import JOBS, QUEUES


def reply(world: World, method: str, answer: Any) -> None:
    """Let `method` answer with a message, or raise an error."""

    async def call(_request: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    world.handlers.replies[method] = call


async def test_enqueue_takes_the_queue_from_the_path_and_the_job_from_the_body(
    client: httpx.AsyncClient, world: World
) -> None:
    reply(world, "enqueue", jobs_pb.EnqueueResponse(queue="media", job_id="an id"))
    answer = await client.post(
        "/v1/queues/media/jobs",
        json={
            "kind": "resize",
            "payload": base64.b64encode(b"\x00\xff").decode(),
            "headers": {"a": "b"},
            "priority": 1,
            "runAt": "2030-01-02T03:04:05.000006Z",
            "deadline": "1.5s",
            "retry_policy": {"maxAttempts": 3, "multiplier": 2},
        },
    )
    assert answer.status_code == 200
    assert answer.json() == {"queue": "media", "jobId": "an id"}
    assert answer.headers["content-type"] == "application/json"
    run_at = Timestamp()
    run_at.FromJsonString("2030-01-02T03:04:05.000006Z")
    job = job_pb2.NewJob(
        queue="media",
        kind="resize",
        payload=b"\x00\xff",
        headers={"a": "b"},
        priority=1,
        run_at=run_at,
        deadline=Duration(seconds=1, nanos=500_000_000),
        retry_policy=job_pb2.RetryPolicy(max_attempts=3, multiplier=2.0),
    )
    assert world.handlers.requests == [jobs_pb.EnqueueRequest(job=job)]


def reason(answer: httpx.Response) -> str:
    """The machine-readable reason of an error."""
    return str(answer.json()["details"][0]["reason"])


CASES: list[tuple[str, str, Any, Any]] = [
    ("GET", "/v1/jobs/x", None, jobs_pb.GetJobRequest(job_id="x")),
    ("GET", "/v1/queues/q/jobs/x", None, jobs_pb.GetJobRequest(queue="q", job_id="x")),
    ("GET", "/v1/jobs/x?queue=q", None, jobs_pb.GetJobRequest(queue="q", job_id="x")),
    ("POST", "/v1/jobs/x:cancel", None, jobs_pb.CancelJobRequest(job_id="x")),
    ("POST", "/v1/jobs/x:cancel", {"queue": "q"}, jobs_pb.CancelJobRequest(queue="q", job_id="x")),
    ("POST", "/v1/queues/q/jobs/x:cancel", {}, jobs_pb.CancelJobRequest(queue="q", job_id="x")),
    (
        "POST",
        "/v1/queues/q/jobs:cancel",
        {"kind": "k", "dryRun": True},
        jobs_pb.CancelJobsRequest(queue="q", kind="k", dry_run=True),
    ),
    ("POST", "/v1/queues/q/jobs", None, jobs_pb.EnqueueRequest(job=job_pb2.NewJob(queue="q"))),
    (
        "POST",
        "/v1/jobs:enqueueBatch",
        {"jobs": [{"queue": "a"}, {"kind": "b", "payload": None}]},
        jobs_pb.EnqueueBatchRequest(jobs=[job_pb2.NewJob(queue="a"), job_pb2.NewJob(kind="b")]),
    ),
    (
        "GET",
        "/v1/queues/q/jobs?state=JOB_STATE_DEAD&page_size=7&pageToken=a%2Bb%3D",
        None,
        jobs_pb.ListJobsRequest(
            queue="q", state=job_pb2.JOB_STATE_DEAD, page_size=7, page_token="a+b="
        ),
    ),
    (
        "GET",
        "/v1/queues/q/jobs?state=6&createdAfter=1970-01-01T00:00:09Z",
        None,
        jobs_pb.ListJobsRequest(
            queue="q", state=job_pb2.JOB_STATE_DEAD, created_after=Timestamp(seconds=9)
        ),
    ),
    (
        "GET",
        "/v1/queues/q/deadLetters?filter.kind=k&filter.reason=DEAD_LETTER_REASON_REJECTED",
        None,
        queues_pb.ListDeadLettersRequest(
            queue="q",
            filter=queues_pb.DeadLetterFilter(kind="k", reason=job_pb2.DEAD_LETTER_REASON_REJECTED),
        ),
    ),
    (
        "POST",
        "/v1/queues/q/deadLetters:redrive",
        {"jobIds": ["a", "b"], "maxJobs": 3, "dryRun": True},
        queues_pb.RedriveDeadLettersRequest(
            queue="q", job_ids=["a", "b"], max_jobs=3, dry_run=True
        ),
    ),
    (
        "POST",
        "/v1/queues/q/deadLetters:purge",
        {"filter": {}},
        queues_pb.PurgeDeadLettersRequest(queue="q", filter=queues_pb.DeadLetterFilter()),
    ),
    (
        "PATCH",
        "/v1/queues/q/policy?updateMask=visibilityTimeout,retry_policy.max_backoff",
        {"visibilityTimeout": "60s"},
        queues_pb.UpdateQueuePolicyRequest(
            queue="q",
            policy=queues_pb.QueuePolicy(visibility_timeout=Duration(seconds=60)),
            update_mask=FieldMask(paths=["visibility_timeout", "retry_policy.max_backoff"]),
        ),
    ),
    ("POST", "/v1/queues/q:pause", None, queues_pb.PauseQueueRequest(queue="q")),
    ("GET", "/v1/cluster", None, queues_pb.GetClusterRequest()),
]


@pytest.mark.parametrize(("method", "path", "body", "expected"), CASES)
async def test_requests(
    client: httpx.AsyncClient, world: World, method: str, path: str, body: Any, expected: Any
) -> None:
    answer = await client.request(method, path, json=body)
    assert answer.status_code == 200, answer.text
    assert world.handlers.requests == [expected]


async def test_every_rpc_with_a_path_answers_there(client: httpx.AsyncClient) -> None:
    from google.api import annotations_pb2

    for service in (JOBS, QUEUES):
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for binding in (rule, *rule.additional_bindings):
                verb = binding.WhichOneof("pattern")
                path = getattr(binding, verb).replace("{job.queue}", "q")
                path = path.replace("{queue}", "q").replace("{job_id}", "x")
                assert (await client.request(verb.upper(), path)).status_code == 200, path


async def test_answers_show_zeros_and_64_bit_numbers_as_strings(
    client: httpx.AsyncClient, world: World
) -> None:
    reply(world, "get_depth", queues_pb.GetDepthResponse(depth=queues_pb.Depth(ready=2**53 + 1)))
    answer = await client.get("/v1/queues/q/depth")
    assert answer.json()["depth"] == {
        "scheduled": "0",
        "ready": "9007199254740993",
        "leased": "0",
        "dead": "0",
        "succeeded": "0",
        "cancelled": "0",
    }


@pytest.mark.parametrize(
    ("error", "http", "code"),
    [
        (errors.JobNotFound("no such job"), 404, 5),
        (errors.JobIdConflict("the id is taken"), 409, 6),
        (errors.JobFinal("it is succeeded"), 400, 9),
        (errors.TooManyQueues("10 000 queues exist"), 429, 8),
        (errors.DatabaseUnavailable("the database does not answer"), 503, 14),
    ],
)
async def test_errors_are_statuses(
    client: httpx.AsyncClient,
    world: World,
    error: errors.AtlasQueueError,
    http: int,
    code: int,
) -> None:
    reply(world, "get_job", error)
    answer = await client.get("/v1/jobs/x")
    tree = answer.json()
    assert (answer.status_code, tree["code"], tree["message"]) == (http, code, str(error))
    assert tree["details"][0] == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": error.reason,
        "domain": "atlasqueue",
    }
    assert answer.headers.get("retry-after") == ("1" if http == 503 else None)


async def test_a_bug_is_500_and_says_nothing_of_itself(
    client: httpx.AsyncClient, world: World
) -> None:
    reply(world, "get_job", RuntimeError("SELECT secret"))
    answer = await client.get("/v1/jobs/x")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["details"][0]["reason"] == "INTERNAL"


BAD: list[tuple[str, Any, str, str]] = [
    ("POST /v1/queues/q/jobs", {"kin": "x"}, "job.kin", "kind"),
    # How it showed: a key with a lone surrogate was answered INTERNAL.
    ("POST /v1/queues/q/jobs", {"\ud800": 1}, "job.?", "kind"),
    ("POST /v1/queues/q/jobs", [], "job", "JSON object"),
    ("POST /v1/queues/q/jobs", {"queue": "other"}, "job.queue", "same"),
    ("POST /v1/queues/q/jobs", {"payload": "hello world"}, "job.payload", "base64"),
    ("POST /v1/queues/q/jobs", {"payload": "abcde"}, "job.payload", "base64"),
    ("POST /v1/queues/q/jobs", {"payload": 5}, "job.payload", "base64"),
    ("POST /v1/queues/q/jobs", {"priority": "high"}, "job.priority", "whole number"),
    ("POST /v1/queues/q/jobs", {"priority": 2**31}, "job.priority", "whole number"),
    ("POST /v1/queues/q/jobs", {"priority": True}, "job.priority", "whole number"),
    ("POST /v1/queues/q/jobs", {"kind": 5}, "job.kind", "string"),
    ("POST /v1/queues/q/jobs", {"kind": "\ud800"}, "job.kind", "Unicode"),
    ("POST /v1/queues/q/jobs", {"kind": {"a": 1}}, "job.kind", "string"),
    ("POST /v1/queues/q/jobs", {"runAt": "tomorrow"}, "job.run_at", "time"),
    ("POST /v1/queues/q/jobs", {"runAt": "9999999-01-01T00:00:00Z"}, "job.run_at", "time"),
    ("POST /v1/queues/q/jobs", {"deadline": "5 minutes"}, "job.deadline", "seconds"),
    # How it showed: the library read 1_0s as ten seconds, +99:99 as four days, and true as 1.
    ("POST /v1/queues/q/jobs", {"deadline": "1_0s"}, "job.deadline", "seconds"),
    ("POST /v1/queues/q/jobs", {"deadline": "\u0663s"}, "job.deadline", "seconds"),
    ("POST /v1/queues/q/jobs", {"runAt": "2030-01-01T00:00:00+99:99"}, "job.run_at", "time"),
    ("POST /v1/queues/q/jobs", {"runAt": "2030-1-1T0:0:0Z"}, "job.run_at", "time"),
    ("POST /v1/queues/q/jobs", {"priority": "0_3"}, "job.priority", "whole number"),
    (
        "POST /v1/queues/q/jobs",
        {"retryPolicy": {"multiplier": True}},
        "job.retry_policy.multiplier",
        "number",
    ),
    ("POST /v1/queues/q/jobs:cancel", {"state": True}, "state", "JOB_STATE_READY"),
    # How it showed: 500.
    ("POST /v1/queues/q/jobs:cancel", {"state": "\ud800"}, "state", "JOB_STATE_READY"),
    ("POST /v1/queues/q/jobs:cancel", {"state": 2.5}, "state", "JOB_STATE_READY"),
    ("POST /v1/queues/q/jobs", {"headers": {"a": 5}}, 'job.headers["a"]', "string"),
    ("POST /v1/queues/q/jobs", {"headers": ["a"]}, "job.headers", "object"),
    ("POST /v1/queues/q/jobs", {"jobId": "a", "job_id": "b"}, "job.job_id", "twice"),
    ("POST /v1/queues/q/jobs?kind=x", {}, "kind", "parameter"),
    ("POST /v1/queues/q/jobs?job.kind=x", {}, "job.kind", "body"),
    ("POST /v1/jobs:enqueueBatch", {"jobs": {}}, "jobs", "array"),
    ("POST /v1/jobs:enqueueBatch", {"jobs": [{}] * 10_001}, "jobs", "10000 items"),
    (
        "POST /v1/queues/q/jobs",
        {"headers": {str(n): "" for n in range(10_001)}},
        "job.headers",
        "10000 items",
    ),
    ("POST /v1/jobs:enqueueBatch", {"jobs": [{}, None]}, "jobs[1]", "object"),
    ("POST /v1/jobs:enqueueBatch", {"jobs": [{}, {"runAt": 1}]}, "jobs[1].run_at", "time"),
    ("POST /v1/jobs:enqueueBatch", "text", "(body)", "object"),
    ("POST /v1/queues/q:pause?queue=z", {}, "queue", "path"),
    ("GET /v1/queues/q/jobs?state=DEAD", None, "state", "JOB_STATE_DEAD"),
    ("GET /v1/queues/q/jobs?pageSize=x", None, "page_size", "whole number"),
    ("GET /v1/queues/q/jobs?pageSize=1&page_size=2", None, "page_size", "twice"),
    ("GET /v1/queues/q/jobs?nope=1", None, "nope", "pageToken"),
    # How it showed: the refusal named no field.
    ("GET /v1/queues/q/jobs?=1", None, '""', "pageToken"),
    ("GET /v1/queues/q/jobs?kind.x=1", None, "kind.x", "no fields"),
    ("GET /v1/queues/q/jobs?", {"a": 1}, "(body)", "empty"),
    ("GET /v1/queues/q/deadLetters?filter=x", None, "filter", "object"),
    ("GET /v1/queues/q/deadLetters?filter.a.b=x", None, "filter.a.b", "kind"),
]


@pytest.mark.parametrize(("line", "body", "field", "bound"), BAD)
async def test_bad_input_names_the_field_and_its_bound(
    client: httpx.AsyncClient, world: World, line: str, body: Any, field: str, bound: str
) -> None:
    method, path = line.split(" ")
    content = None if body is None else json.dumps(body)
    headers = {"content-type": "application/json"}
    answer = await client.request(method, path, content=content, headers=headers)
    assert answer.status_code == 400, answer.text
    info, bad_request = answer.json()["details"]
    assert info["reason"] == "INVALID_FIELD"
    [violation] = bad_request["fieldViolations"]
    assert violation["field"] == field
    assert bound in violation["description"]
    assert world.handlers.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b'{"kind": NaN}',
        b'{"kind": "a", "kind": "b"}',
        b'{"priority": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xef\xbb\xbf{}",
    ],
    ids=["cut", "not utf-8", "nan", "repeat", "huge number", "deep", "deep objects", "bom"],
)
async def test_what_is_no_json_is_malformed(
    client: httpx.AsyncClient, world: World, body: bytes
) -> None:
    answer = await client.post(
        "/v1/queues/q/jobs", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"][0]["reason"] == "MALFORMED_MESSAGE"
    assert world.handlers.requests == []


@pytest.mark.parametrize("path", ["/v1/queues/%ff", "/v1/queues?pageToken=%ff"])
async def test_an_address_that_is_not_utf8_is_malformed(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 400
    assert answer.json()["details"][0]["reason"] == "MALFORMED_MESSAGE"


def test_one_bad_value_among_many_is_found_without_trying_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How it showed: a body of 4 MiB with one bad value, its last, took half a minute."""
    from google.protobuf import json_format

    from atlasqueue.v1 import job_service_pb2 as jobs_pb
    from atlasqueue_server.http import json_input

    tried: list[object] = []

    def counted(tree: Any, message: Any) -> Any:
        tried.append(tree)
        return json_format.ParseDict(tree, message)

    monkeypatch.setattr(json_input, "ParseDict", counted)
    jobs = [{"kind": "k", "priority": 3, "runAt": "2030-01-01T00:00:00Z"} for _ in range(100)]
    jobs[-1]["runAt"] = "2030-99-01T00:00:00Z"
    with pytest.raises(errors.InvalidField, match=r"^jobs\[99\]\.run_at: must be a time"):
        json_input.merge({"jobs": jobs}, jobs_pb.EnqueueBatchRequest())
    # The whole, each job, and the three values of the bad one.
    assert len(tried) == 1 + 100 + 3


async def test_oneof_twice_is_refused_whole() -> None:
    from atlasqueue.v1 import worker_service_pb2 as workers_pb
    from atlasqueue_server.http.json_input import merge

    outcome: dict[str, Any] = {"complete": {}, "cancel": {}}
    with pytest.raises(errors.InvalidField, match="only one of complete, fail"):
        merge({"outcomes": [outcome]}, workers_pb.ReportRequest())


async def test_a_newline_in_a_path_reaches_the_handlers(
    client: httpx.AsyncClient, world: World
) -> None:
    """How it showed: the path was answered 404 in plain text, before the transcoder saw it."""
    await client.get("/v1/queues/a%0A")
    assert world.handlers.requests[-1].queue == "a\n"


async def test_an_unknown_path_is_404_and_a_wrong_method_405(client: httpx.AsyncClient) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/queues/q:explode", "/v1/queues/"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, 5), path
        assert reason(answer) == "PATH_NOT_FOUND"
        assert "/docs shows" in answer.json()["message"]
    answer = await client.delete("/v1/queues/q/jobs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert reason(answer) == "METHOD_NOT_ALLOWED"
    assert "GET, POST" in answer.json()["message"]


async def test_a_body_over_the_limit_is_413(client: httpx.AsyncClient, world: World) -> None:
    async def chunks() -> Any:
        for _ in range(5):
            yield bytes(limits.MIB)

    headers = {"content-type": "application/json"}
    for content in (bytes(limits.MESSAGE_BYTES_MAX + 1), chunks()):
        answer = await client.post("/v1/queues/q/jobs", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, 8)
        assert reason(answer) == "BODY_TOO_LARGE"
    assert world.handlers.requests == []


async def test_a_large_body_within_the_limit_is_taken(
    client: httpx.AsyncClient, world: World
) -> None:
    payload = bytes(limits.PAYLOAD_BYTES_MAX)
    body = {"kind": "k", "payload": base64.b64encode(payload).decode()}
    assert (await client.post("/v1/queues/q/jobs", json=body)).status_code == 200
    assert world.handlers.requests[0].job.payload == payload


async def test_a_body_that_is_not_called_json_is_415(
    client: httpx.AsyncClient, world: World
) -> None:
    for headers in ({"content-type": "text/plain"}, {"content-encoding": "gzip"}):
        sent = {"content-type": "application/json"} | headers
        answer = await client.post("/v1/queues/q/jobs", content=b"{}", headers=sent)
        assert (answer.status_code, reason(answer)) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert world.handlers.requests == []


async def test_pages_of_other_sites_may_not_change_anything(
    client: httpx.AsyncClient, world: World
) -> None:
    evil = {"origin": "https://evil.test"}
    # How it showed: an origin that is no address was answered 500.
    for origin in ("http://[::", "null", "x" * 300):
        refused = await client.post("/v1/queues/media:pause", headers={"origin": origin})
        assert (refused.status_code, reason(refused)) == (403, "FOREIGN_ORIGIN")
    assert (await client.post("/v1/queues/q:pause", headers=evil)).status_code == 403
    assert world.handlers.requests == []
    own = {"origin": "http://atlasqueue.test"}
    assert (await client.post("/v1/queues/q:pause", headers=own)).status_code == 200


async def test_the_gate_holds_for_rest_too(world: World) -> None:
    from atlasqueue_server.http.app import build_app
    from tests.rpc.fakes import bound

    def gate(_rpc: str, /) -> None:
        raise errors.ShuttingDown("this server is draining")

    app = build_app(bound(world.handlers, gate), world.metrics, world.readiness)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://a.test") as client:
        answer = await client.get("/v1/queues")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "0")
    assert answer.json()["details"][0]["reason"] == "SHUTTING_DOWN"
