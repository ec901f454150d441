"""Every bad request is refused with the field and its bound named, and leaves no trace in the database."""

from __future__ import annotations

import copy
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlasqueue.v1 import job_pb2, job_service_pb2, queue_service_pb2, worker_service_pb2
from tests.badinput.cases import CASES, INT32, INT64, QUEUE, Held, sound
from tests.plugins.postgres import Templates, create_database, drop_database
from tests.plugins.processes import Child, Processes

REQUESTS_MIN = 2000
MODULES = (job_service_pb2, worker_service_pb2, queue_service_pb2)
RPCS = {
    method.name: method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
# What a refused call may not touch. The leader and the list of servers live on by themselves.
TABLES = (
    "jobs scheduled ready leased dead_letters finished failures checkpoints queues sessions".split()
)
FINE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


class Target:
    """A server in a process of its own, and one job leased from it."""

    def __init__(self, server: Child, database_url: str) -> None:
        self.database_url = database_url
        self.channel = grpc.insecure_channel(server.address)
        grpc.channel_ready_future(self.channel).result(60)
        policy = queue_service_pb2.QueuePolicy(visibility_timeout=Duration(seconds=12 * 3600))
        self.ask(
            queue_service_pb2.UpdateQueuePolicyRequest(queue=QUEUE, policy=policy),
            "UpdateQueuePolicy",
        )
        self.ask(sound("Enqueue", Held(0, "", 0)), "Enqueue")
        request = worker_service_pb2.LeaseOnceRequest(
            queues=[QUEUE], worker="w", wait=Duration(seconds=10)
        )
        leased = self.ask(request, "LeaseOnce")
        (job,) = leased.jobs
        self.held = Held(leased.session.session_id, job.job_id, job.fence)

    def ask(self, request: Message | bytes, rpc: str) -> Any:
        """The answer; of a stream the first event. Raises grpc.RpcError."""
        method = RPCS[rpc]
        path = f"/{method.containing_service.full_name}/{rpc}"
        data = request if isinstance(request, bytes) else request.SerializeToString()
        if not method.server_streaming:
            answer = self.channel.unary_unary(path)(data, timeout=20)
        else:
            stream = self.channel.unary_stream(path)(data, timeout=20)
            answer = next(stream)
            stream.cancel()
        module = next(m for m in MODULES if hasattr(m, f"{rpc}Response"))
        return getattr(module, f"{rpc}Response").FromString(answer)

    def refusal(self, request: Message | bytes, rpc: str) -> status_pb2.Status:
        """The status that refuses; fails when there is none."""
        try:
            answer = self.ask(request, rpc)
        except grpc.RpcError as error:
            return _status(error)
        if rpc == "EnqueueBatch":
            # Each job is judged on its own: the refusal is that of the first.
            results = [*answer.results, *answer.uniform]
            return (results[0] if results[0].HasField("error") else results[0].refused[0]).error
        raise AssertionError(f"{rpc} took {str(request)[:300]!r} and answered {answer}")

    def rows(self) -> dict[str, list[str]]:
        """Everything stored."""
        with psycopg.connect(self.database_url) as connection:
            return {
                table: [
                    row[0]
                    for row in connection.execute(
                        f"select t::text from atlasqueue.{table} t order by 1"
                    )
                ]
                for table in TABLES
            }


def _status(error: Any) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    return status_pb2.Status(code=error.code().value[0], message=error.details())


def _fields(status: status_pb2.Status) -> dict[str, str]:
    """The named fields with their bounds."""
    broken = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(broken):
            return {v.field: v.description for v in broken.field_violations}
    return {}


def _reason(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for detail in status.details if detail.Unpack(info)), "")


@pytest.fixture(scope="module")
def target(
    postgres_url: str, migrated_template: Templates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """The server of this module."""
    url = create_database(postgres_url, migrated_template(postgres_url))
    processes = Processes(tmp_path_factory.mktemp("badinput"))
    server = processes.server(url)
    target = Target(server, url)
    yield target
    target.channel.close()
    assert server.stop() == 0
    assert "internal error" not in server.log.read_text()
    drop_database(postgres_url, url)


# Other tests walk the same code; to follow it here takes a third of the time.
@pytest.mark.no_cover
def test_every_bad_field_is_named_and_nothing_is_stored(target: Target) -> None:
    """How it showed: page tokens with a lone surrogate were answered INTERNAL, and a token of another list
    stood for the beginning, from which CancelJobs went on."""
    before = target.rows()
    seen: Counter[int] = Counter()

    @settings(SETTINGS, max_examples=REQUESTS_MIN + 200)
    @given(data=st.data(), index=st.integers(0, len(CASES) - 1))
    def refuse(data: st.DataObject, index: int) -> None:
        case = CASES[index]
        request = case.request(target.held, data.draw(case.values))
        status = target.refusal(request, case.rpc)
        seen[index] += 1
        assert status.code == code_pb2.INVALID_ARGUMENT, (case, status)
        assert _reason(status) == "INVALID_FIELD"
        fields = _fields(status)
        assert any(field.startswith(case.named) for field in fields), (case, fields)
        assert all("must" in bound or "required" in bound for bound in fields.values()), fields

    refuse()
    assert sum(seen.values()) >= REQUESTS_MIN
    assert not set(range(len(CASES))) - set(seen), "some case was never tried"
    assert target.rows() == before


@pytest.mark.parametrize("rpc", sorted(RPCS))
def test_bytes_that_are_no_message_are_refused(target: Target, rpc: str) -> None:
    before = target.rows()
    good = sound(rpc, target.held).SerializeToString()
    text = RPCS[rpc].input_type.fields
    broken = [good + b"\xff" * 11, good + b"\x0f", good + b"\x0a\x7f", b"\x0b" * 2000]
    # A string that is not UTF-8, in the first field that is one.
    broken += [
        bytes([field.number << 3 | 2]) + b"\x02\xc3\x28"
        for field in text
        if field.type == field.TYPE_STRING
    ][:1]
    for data in broken:
        status = target.refusal(data, rpc)
        assert (status.code, _reason(status)) == (
            code_pb2.INVALID_ARGUMENT,
            "MALFORMED_MESSAGE",
        ), data
    assert target.rows() == before


def test_a_message_over_the_limit_is_refused_by_the_transport(target: Target) -> None:
    before = target.rows()
    request = sound("Enqueue", target.held)
    request.job.payload = b"x" * (5 * 1024 * 1024)
    assert target.refusal(request, "Enqueue").code == code_pb2.RESOURCE_EXHAUSTED
    assert target.rows() == before


def test_a_lease_named_twice_is_refused(target: Target) -> None:
    """How it showed: a heartbeat that held one lease twice, with a checkpoint, was answered INTERNAL."""
    before = target.rows()
    for rpc, field in (("Heartbeat", "held"), ("Report", "outcomes")):
        request = sound(rpc, target.held)
        again = copy.deepcopy(getattr(request, field)[0])
        again.job_id = again.job_id.upper()
        getattr(request, field).append(again)
        assert f"{field}[1]" in _fields(target.refusal(request, rpc))
    # And once more in the other form.
    request = sound("Report", target.held)
    one = uuid.UUID(target.held.job_id).bytes
    request.completed.add(queue=QUEUE, job_ids=one, fences=[target.held.fence])
    assert list(_fields(target.refusal(request, "Report"))) == ["completed"]
    assert target.rows() == before


@pytest.mark.parametrize(
    ("rpc", "field", "most"),
    [
        ("Heartbeat", "held", 10_000),
        ("Report", "completed", 10_000),
        ("PurgeDeadLetters", "job_ids", 10_000),
        ("LeaseOnce", "queues", 100),
    ],
)
def test_of_a_list_that_is_too_long_no_item_is_looked_at(
    target: Target, rpc: str, field: str, most: int
) -> None:
    """How it showed: 4 MiB of empty items were checked one by one; nobody was served for over a second."""
    request = sound(rpc, target.held)
    items = getattr(request, field)
    del items[:]
    for _ in range(most + 1):
        items.add() if rpc in ("Heartbeat", "Report") else items.append("")
    if rpc == "PurgeDeadLetters":
        request.ClearField("filter")
    assert list(_fields(target.refusal(request, rpc))) == [field]


def test_what_is_missing_is_refused(target: Target) -> None:
    """A report without an outcome, a snooze without a delay, dead letters neither named nor filtered."""
    before = target.rows()
    report = sound("Report", target.held)
    report.outcomes[0].ClearField("complete")
    assert "outcomes[0].outcome" in _fields(target.refusal(report, "Report"))
    report.outcomes[0].snooze.SetInParent()
    assert "outcomes[0].snooze.delay" in _fields(target.refusal(report, "Report"))
    for rpc in ("RedriveDeadLetters", "PurgeDeadLetters"):
        request = sound(rpc, target.held)
        request.ClearField("filter")
        assert "job_ids" in _fields(target.refusal(request, rpc))
    assert target.rows() == before


# -- whatever is sent ---------------------------------------------------------------------------------

_IDS = [str(uuid.uuid4()) for _ in range(2)]
_TEXTS = st.sampled_from([QUEUE, "k", "w", "", "retry_policy", *_IDS]) | st.text(max_size=20)
_SMALL = st.sampled_from([0, 1, 2, 3, 100])


def _anything(target: Target, descriptor: Any, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Messages of all fields, each left out or of its type; few values, so that they meet."""
    values = {}
    for field in descriptor.fields:
        # The server's own names for it are not to be guessed: without them nothing would be found.
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value: st.SearchStrategy[Any] = st.dictionaries(_TEXTS, _TEXTS, max_size=3)
        elif field.message_type is not None:
            if depth > 4:
                continue
            value = _anything(target, field.message_type, depth + 1)
        else:
            value = _scalar(target, field)
        is_list = field.is_repeated and not isinstance(value, dict)
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        values[field.name] = st.lists(value, max_size=3) if is_list and not is_map else value
    return st.fixed_dictionaries({}, optional=values)


def _scalar(target: Target, field: Any) -> st.SearchStrategy[Any]:
    held = target.held
    if field.name == "job_id":
        return st.sampled_from([held.job_id, held.job_id.upper(), *_IDS])
    if field.name in ("fence", "last_fence"):
        return st.sampled_from([held.fence, held.fence + 1, 1, INT64[1]])
    if field.name in ("session_id", "epoch"):
        return st.sampled_from([held.session_id, 1, INT64[1]])
    match field.type:
        case field.TYPE_STRING:
            return _TEXTS
        case field.TYPE_BYTES:
            return st.binary(max_size=20)
        case field.TYPE_BOOL:
            return st.booleans()
        case field.TYPE_DOUBLE:
            return st.floats()
        case field.TYPE_INT64:
            return _SMALL | st.integers(*INT64)
        case _:
            return _SMALL | st.integers(*INT32)


def _never_waits(request: Any) -> Any:
    # A sound wait would be waited for.
    if isinstance(request, worker_service_pb2.LeaseOnceRequest):
        request.ClearField("wait")
    return request


@pytest.mark.no_cover
def test_nothing_that_can_be_sent_is_an_internal_error(target: Target) -> None:
    """How it showed: nothing, so far; it guards what the table of cases does not think of."""

    @settings(SETTINGS, max_examples=1000)
    @given(data=st.data(), rpc=st.sampled_from(sorted(set(RPCS) - {"WatchJob", "Lease"})))
    def send(data: st.DataObject, rpc: str) -> None:
        descriptor = RPCS[rpc].input_type
        request_class = type(sound(rpc, target.held))
        request = _never_waits(request_class(**data.draw(_anything(target, descriptor))))
        code = grpc.StatusCode.OK
        try:
            target.ask(request, rpc)
        except grpc.RpcError as error:
            code = error.code()
        assert code in FINE, (rpc, request)

    send()


def test_sql_in_text_is_kept_as_text(target: Target) -> None:
    """Where a field takes any text, it comes back as it was."""
    text = "'; drop table atlasqueue.jobs; -- %s %(queue)s {} \\ \" \U0001f600"
    job = job_pb2.NewJob(queue="sql", kind="k", job_id=str(uuid.uuid4()), payload=text.encode())
    job.headers[text] = text
    target.ask(job_service_pb2.EnqueueRequest(job=job), "Enqueue")
    request = job_service_pb2.GetJobRequest(queue="sql", job_id=job.job_id)
    read = target.ask(request, "GetJob").job
    assert read.payload == text.encode()
    assert dict(read.headers) == {text: text}
