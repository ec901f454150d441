"""Walks every pair of a verb and a place over gRPC, allowed and refused, and compares with TRANSITIONS.

An allowed pair brings the job where the table says and gives the documented answer; a refused pair
gives the documented answer and changes no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from atlasqueue.v1 import job_service_pb2, queue_service_pb2
from atlasqueue_server.model.limits import CRASH_CAP, UNKNOWN_KIND_DELIVERIES_MAX
from atlasqueue_server.model.states import TRANSITIONS, Gone, Place, State, Verb
from atlasqueue_server.rpc.codes import STATES_IN
from atlasqueue_server.store.jobs import Cancelled, cancel_job_if_open
from tests.factories import SMALL_TABLES, Standing, snapshot_of_queue
from tests.verbs.conftest import Bench
from tests.verbs.ways import PLACES, WAYS, Way

pytestmark = pytest.mark.asyncio(loop_scope="package")


@dataclass(frozen=True)
class Step:
    """A way taken from a place; `result` is None where it is refused."""

    way: Way
    place: Place
    result: Place | None

    def __str__(self) -> str:
        return f"{self.way.name}-{self.place}-{self.result or 'refused'}"


STEPS = [
    Step(way, place, result)
    for way in WAYS
    for place in PLACES
    for result in way.moves.get(place, (None,))
]


async def test_ways_are_the_table() -> None:
    """No verb and no pair of the table is forgotten, and no way moves a job against the table."""
    moves: dict[tuple[Verb, Place], set[Place]] = {}
    for step in STEPS:
        if step.result is not None:
            moves.setdefault((step.way.verb, step.place), set()).add(step.result)
    assert moves == {pair: set(results) for pair, results in TRANSITIONS.items()}
    assert {way.verb for way in WAYS} == set(Verb)


# What must be true beforehand for a way to have an effect; harmless where it has none.
CONDITIONS = {
    "promote": "update atlasqueue.scheduled set run_at = now() - interval '1 s' where queue = %(queue)s",
    "deadline": "update atlasqueue.leased set deadline_at = now() - interval '1 s' where queue = %(queue)s",
    "expire": "update atlasqueue.sessions set expires_at = now() - interval '1 s' where queues[1] = %(queue)s",
    "prune": """
        with bodies as (
            update atlasqueue.jobs set created_at = created_at - interval '40 days' where queue = %(queue)s
        ), finished as (
            update atlasqueue.finished set finished_at = finished_at - interval '35 days'
            where queue = %(queue)s
        )
        update atlasqueue.dead_letters set died_at = died_at - interval '35 days' where queue = %(queue)s
        """,
}
SPENT = {
    Verb.FAIL: "update atlasqueue.jobs set max_attempts = 1 where queue = %(queue)s",
    Verb.EXPIRE: f"update atlasqueue.leased set crashes = {CRASH_CAP - 1} where queue = %(queue)s",
    Verb.UNKNOWN_KIND: f"""
        insert into atlasqueue.failures (queue, job_id, fence, attempt, cause, final)
        select queue, job_id, fence + 1000000 + i, 0, 'k', false
        from atlasqueue.leased, generate_series(1, {UNKNOWN_KIND_DELIVERIES_MAX - 1}) i
        where queue = %(queue)s
        """,
}


async def _prepare(bench: Bench, at: Standing, step: Step) -> None:
    if (
        step.place is State.LEASED
        and step.result is State.CANCELLED
        and step.way.name != "report_cancel"
    ):
        asked = await cancel_job_if_open(bench.database, at.queue, at.job_id)
        assert asked == (Cancelled.REQUESTED, at.session_id, at.fence)
    if step.result is State.DEAD and step.way.verb in SPENT:
        await bench.sql(SPENT[step.way.verb], queue=at.queue)
    if condition := CONDITIONS.get(step.way.name):
        await bench.sql(condition, queue=at.queue)


async def place_of(bench: Bench, at: Standing) -> Place:
    """Where the job stands: the server's answer, which must be what the tables hold."""
    counts: dict[str, int] = {}
    for table in ("jobs", *SMALL_TABLES):
        rows = await bench.sql(
            f"select count(*) from atlasqueue.{table} where queue = %(queue)s and job_id = %(id)s::uuid",
            queue=at.queue,
            id=at.job_id,
        )
        counts[table] = rows[0][0]
    request = job_service_pb2.GetJobRequest(queue=at.queue, job_id=at.job_id)
    try:
        job = (await bench.server.jobs.GetJob(request)).job
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert not any(counts.values()), counts
        return Gone.GONE
    state = STATES_IN[job.state]
    table = {State.DEAD: "dead_letters", State.SUCCEEDED: "finished", State.CANCELLED: "finished"}
    expected = dict.fromkeys(counts, 0) | {"jobs": 1, table.get(state, state.value): 1}
    assert counts == expected
    return state


async def _depth(bench: Bench) -> dict[str, int]:
    request = queue_service_pb2.GetDepthRequest(queue=bench.queue)
    depth = (await bench.server.queues.GetDepth(request)).depth
    return {field.name: value for field, value in depth.ListFields() if value}


@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_step(bench: Bench, step: Step) -> None:
    """One way from one place, to one result."""
    at = await bench.factory.job_in(step.place)
    assert await place_of(bench, at) == step.place
    await _prepare(bench, at, step)
    before = await snapshot_of_queue(bench.connection, bench.queue)

    answer = await step.way.act(bench, at)

    assert answer == step.way.answer(step.place, step.result)
    after = await snapshot_of_queue(bench.connection, bench.queue)
    if step.result is None or step.way.verb is Verb.HEARTBEAT:
        assert after == before
    else:
        assert after != before
    found = await place_of(bench, at)
    assert found == (step.place if step.result is None else step.result)
    if found is Gone.GONE:
        assert not after["failures"]
        assert not after["checkpoints"]
    depth = await _depth(bench)
    unfinished = {k: v for k, v in depth.items() if k not in ("succeeded", "cancelled")}
    in_depth: dict[Any, str] = {state: state.value for state in State}
    if found in (State.SUCCEEDED, State.CANCELLED):
        assert depth == {in_depth[found]: 1}
    else:
        assert unfinished == ({in_depth[found]: 1} if found is not Gone.GONE else {})


async def test_complete_wins_over_cancel_request(bench: Bench) -> None:
    """The work is done, so the job has succeeded."""
    at = await bench.factory.job_in(State.LEASED)
    await cancel_job_if_open(bench.database, at.queue, at.job_id)
    way = next(way for way in WAYS if way.name == "report_complete")
    assert await way.act(bench, at) == "APPLIED succeeded"
    assert await place_of(bench, at) is State.SUCCEEDED


@pytest.mark.parametrize("name", ["report_snooze", "report_unknown_kind"])
async def test_repeated_report_is_already_applied(bench: Bench, name: str) -> None:
    """The two outcomes that no place of the factory comes from, told twice."""
    at = await bench.factory.job_in(State.LEASED)
    way = next(way for way in WAYS if way.name == name)
    assert await way.act(bench, at) == "APPLIED scheduled"
    before = await snapshot_of_queue(bench.connection, bench.queue)
    assert await way.act(bench, at) == "ALREADY_APPLIED"
    assert await snapshot_of_queue(bench.connection, bench.queue) == before


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way.name.startswith("report_")], ids=lambda w: w.name
)
async def test_report_of_an_older_lease_is_stale(bench: Bench, way: Way) -> None:
    """The job was leased again under a newer fence: whatever the older worker says changes nothing."""
    older = await bench.factory.job_in(State.READY)
    session = await bench.factory.session()
    (row,) = await bench.factory.lease(session.session_id)
    assert row.fence > older.fence
    before = await snapshot_of_queue(bench.connection, bench.queue)
    assert await way.act(bench, older) == "STALE"
    assert await snapshot_of_queue(bench.connection, bench.queue) == before
