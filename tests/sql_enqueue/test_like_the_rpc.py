"""The RPC and the function accept and refuse the same jobs, for the same reason, and store the same rows."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings

from atlasqueue.v1 import (
    job_service_pb2,
    job_service_pb2_grpc,
    queue_service_pb2,
    queue_service_pb2_grpc,
)
from tests.plugins.postgres import Templates, create_database, drop_database
from tests.plugins.processes import Processes
from tests.sql_enqueue.conftest import GRANTS, a_role
from tests.sql_enqueue.drawn import EDGES, Fields, fields, to_call, to_proto

EXAMPLES = 120
EXAMPLES_LONG = 4000
SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
# How PostgreSQL itself refuses what its types cannot hold, before the function is called.
REFUSED_BY_TYPE = {
    "22P02": "job_id",  # no UUID
    "22P05": "headers",  # U+0000 in JSON
    "22008": "run_at",  # beyond what timestamptz holds
}
VIOLATIONS_TOLD = 6


@dataclass(frozen=True)
class Answer:
    """The id, or the reason and the fields with their bounds."""

    job_id: str = ""
    reason: str = ""
    broken: frozenset[tuple[str, str]] = frozenset()


class Both:
    """The RPC of a server in a process of its own, and the function on its database."""

    def __init__(self, address: str, admin_url: str, producer_url: str) -> None:
        self.channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self.channel).result(60)
        self.jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self.queues = queue_service_pb2_grpc.QueueServiceStub(self.channel)
        self.producer = psycopg.connect(producer_url, autocommit=True)
        self.admin = psycopg.connect(admin_url, autocommit=True)

    def close(self) -> None:
        """Hangs up."""
        self.channel.close()
        self.producer.close()
        self.admin.close()

    def rpc(self, job: Fields) -> Answer:
        """Enqueues by the RPC."""
        try:
            stored = self.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=to_proto(job)))
        except grpc.RpcError as error:
            return _refusal(error)
        return Answer(stored.job_id)

    def sql(self, job: Fields) -> Answer:
        """Enqueues by the function."""
        try:
            ((job_id,),) = self.producer.execute(*to_call(job)).fetchall()
        except psycopg.DataError as error:
            if error.sqlstate == "22023":
                assert error.diag.message_detail == "INVALID_FIELD"
                told = str(error.diag.message_primary).split("; ")
                broken = frozenset((field, bound) for field, _, bound in map(_parted, told))
                return Answer(reason="INVALID_FIELD", broken=broken)
            # Text with U+0000 is refused by the driver.
            field = REFUSED_BY_TYPE[error.sqlstate] if error.sqlstate else ""
            return Answer(reason="INVALID_FIELD", broken=frozenset({(field, "type")}))
        except psycopg.Error as error:
            return Answer(reason=error.diag.message_detail or str(error))
        return Answer(str(job_id))

    def rows(self, queue: str, job_id: str) -> list[Any]:
        """What is stored of a job, but for ids, places and the time of the call."""
        return [
            self.admin.execute(statement, {"queue": queue, "job_id": job_id}).fetchall()
            for statement in (
                "select to_jsonb(j) - 'job_id' - 'created_at' - 'ready_seq', ready_seq is null"
                " from atlasqueue.jobs j where queue = %(queue)s and job_id = %(job_id)s",
                "select to_jsonb(r) - 'job_id' - 'seq' from atlasqueue.ready r"
                " where queue = %(queue)s and job_id = %(job_id)s",
                "select to_jsonb(s) - 'job_id' from atlasqueue.scheduled s"
                " where queue = %(queue)s and job_id = %(job_id)s",
                "select name from atlasqueue.queues where name = %(queue)s",
            )
        ]


def _parted(text: str) -> tuple[str, str, str]:
    return text.partition(": ")


def _refusal(error: Any) -> Answer:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    reason, broken = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status_pb2.Status.FromString(details).details:
        detail.Unpack(reason)
        detail.Unpack(broken)
    return Answer(
        reason=reason.reason,
        broken=frozenset(
            (v.field.removeprefix("job.").removeprefix("retry_policy."), v.description)
            for v in broken.field_violations
        ),
    )


def _timeless(answer: Answer) -> frozenset[tuple[str, str]]:
    """The violations; a bound that is a time of now has its date only."""
    return frozenset((field, re.sub(r"T[\d:]+Z \(", " (", bound)) for field, bound in answer.broken)


@pytest.fixture(scope="module")
def both(
    postgres_url: str, migrated_template: Templates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    """One server for this module, which nobody works for."""
    url = create_database(postgres_url, migrated_template(postgres_url))
    processes = Processes(tmp_path_factory.mktemp("sql_enqueue"))
    server = processes.server(url)
    with a_role(url, *GRANTS) as producer_url:
        both = Both(server.address, url, producer_url)
        yield both
        both.close()
    assert server.stop() == 0
    assert "internal error" not in server.log.read_text()
    drop_database(postgres_url, url)


@pytest.mark.parametrize("field", sorted(EDGES))
def test_they_judge_the_bounds_alike(both: Both, field: str) -> None:
    judged = [_compare(both, {"queue": "q", "kind": "k", field: edge}) for edge in EDGES[field]]
    assert set(judged) == {True, False}


@pytest.mark.parametrize(
    "examples", [EXAMPLES, pytest.param(EXAMPLES_LONG, marks=pytest.mark.long)]
)
def test_they_accept_and_refuse_the_same(both: Both, examples: int) -> None:
    seen: Counter[bool] = Counter()

    @settings(SETTINGS, max_examples=examples)
    @given(job=fields())
    def compare(job: Fields) -> None:
        seen[_compare(both, job)] += 1

    compare()
    assert min(seen[True], seen[False]) > examples / 10, seen


def _compare(both: Both, job: Fields) -> bool:
    """Whether it is taken: by both, with the same rows, or by none, for the same reason."""
    by_rpc, by_sql = both.rpc(job), both.sql(job)
    assert by_rpc.reason == by_sql.reason, (by_rpc, by_sql)
    if by_rpc.reason:
        _compare_refusals(by_rpc, by_sql)
        return False
    _repeat_both_ways(both, job, by_rpc.job_id)
    if "job_id" in job:
        assert by_rpc == by_sql
        return True
    stored = [both.rows(job["queue"], answer.job_id) for answer in (by_rpc, by_sql)]
    assert stored[0] == stored[1]
    _repeat_both_ways(both, job, by_sql.job_id)
    return True


def _compare_refusals(by_rpc: Answer, by_sql: Answer) -> None:
    told = _timeless(by_rpc)
    if any(bound == "type" for _, bound in by_sql.broken):
        ((field, _),) = by_sql.broken
        assert field in {name for name, _ in told} or not field, (by_rpc, by_sql)
    elif len(told) < VIOLATIONS_TOLD:
        assert told == _timeless(by_sql)
    else:
        assert told <= _timeless(by_sql)


def _repeat_both_ways(both: Both, job: Fields, job_id: str) -> None:
    """The same id with the same body is the same job, with another it is a conflict."""
    before = both.rows(job["queue"], job_id)
    same = {**job, "job_id": job_id}
    other = {**same, "payload": b"another body"}
    for enqueue in (both.rpc, both.sql):
        assert enqueue(same) == Answer(job_id)
        assert enqueue(other) == Answer(reason="JOB_ID_CONFLICT")
    assert both.rows(job["queue"], job_id) == before


def test_each_field_is_part_of_the_body_both_ways(both: Both) -> None:
    """Headers of tracing are not."""
    values: dict[str, list[Any]] = {
        "kind": ["k", "l"],
        "payload": [b"", b"\0"],
        "headers": [{"a": "1", "traceparent": "00-1"}, {"a": "2"}],
        "priority": [3, 4],
        "run_at": [10**12, 10**12 + 1],
        "deadline": [1_000_000, 1_001_000],
        "max_attempts": [1, 2],
        "initial_backoff": [0, 1000],
        "multiplier": [1.5, 1.6],
        "max_backoff": [0, 1000],
    }
    whole = {"queue": "q"} | {name: first for name, (first, _) in values.items()}
    ways = (both.rpc, both.sql)
    for store, repeat in (ways, ways[::-1]):
        job = {**whole, "job_id": str(uuid.uuid4())}
        stored = store(job)
        assert stored == Answer(job["job_id"])
        assert repeat({**job, "headers": {"a": "1", "baggage": "x"}}) == stored
        for name, (_, other) in values.items():
            assert repeat({**job, name: other}).reason == "JOB_ID_CONFLICT", name


def test_a_paused_queue_takes_jobs_both_ways(both: Both) -> None:
    both.queues.PauseQueue(queue_service_pb2.PauseQueueRequest(queue="paused"))
    job = {"queue": "paused", "kind": "k"}
    stored = [both.rows("paused", way(job).job_id) for way in (both.rpc, both.sql)]
    assert stored[0] == stored[1]
    assert stored[0][1], "it is ready"


def test_too_many_queues_both_ways(both: Both) -> None:
    both.admin.execute(
        "insert into atlasqueue.queues (name) select 'filler' || n from generate_series(1, 10000) n"
    )
    both.admin.execute("insert into atlasqueue.queues (name) values ('q') on conflict do nothing")
    try:
        for way in (both.rpc, both.sql):
            assert way({"queue": "no-room", "kind": "k"}) == Answer(reason="TOO_MANY_QUEUES")
            assert way({"queue": "q", "kind": "k"}).job_id
    finally:
        both.admin.execute("delete from atlasqueue.queues where name like 'filler%'")
