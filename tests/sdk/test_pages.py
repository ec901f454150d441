"""What takes several calls is done whole, and what is meant to be one call is one."""

from __future__ import annotations

from typing import Any

import pytest

from atlasqueue import AsyncClient, CancelledJobs, DeadLetterReason
from atlasqueue.async_operators import AsyncDeadLetters, AsyncQueues
from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue.v1 import queue_service_pb2 as wire


class Told:
    """Calls that are answered as a test says, one after the other, and what they asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    async def call(self, _pick: Any, request: Any, *_: Any) -> Any:
        """The next answer."""
        asked = type(request)()
        asked.CopyFrom(request)
        self.asked.append(asked)
        return self.answers.pop(0)


VERBS: list[tuple[str, Any, str]] = [
    ("redrive", wire.RedriveDeadLettersResponse, "redriven"),
    ("purge", wire.PurgeDeadLettersResponse, "purged"),
]


@pytest.mark.parametrize(("verb", "response", "counted"), VERBS)
async def test_a_filter_takes_all_that_fit_and_a_dry_run_or_a_list_of_names_one_call(
    verb: str, response: Any, counted: str
) -> None:
    answers = [response(**{counted: count}, more=more) for count, more in ((3, True), (2, False))]
    for given, moved, dry_run in (
        ({"kind": "k", "reason": DeadLetterReason.REJECTED}, 5, False),
        ({"dry_run": True}, 3, True),
        ({"job_ids": ["a", "b"]}, 3, False),
    ):
        told = Told(*answers)
        assert await getattr(AsyncDeadLetters(told), verb)("q", **given) == moved  # type: ignore[arg-type]
        assert len(told.asked) == (2 if moved == 5 else 1)
        assert {asked.dry_run for asked in told.asked} == {dry_run}
        assert {asked.queue for asked in told.asked} == {"q"}


@pytest.mark.parametrize(("verb", "response", "_counted"), VERBS)
async def test_names_and_filter_go_out_as_they_were_given(
    verb: str, response: Any, _counted: str
) -> None:
    """To leave one away would take more jobs than were meant; the server refuses what does not go together."""
    rejected = DeadLetterReason.REJECTED
    for given, names, filtered in (
        ({}, [], True),
        ({"job_ids": ["a"]}, ["a"], False),
        ({"job_ids": []}, [], False),
        ({"job_ids": [], "kind": "k"}, [], False),
        ({"job_ids": ["a"], "kind": "k"}, ["a"], True),
        ({"job_ids": ["a"], "reason": rejected}, ["a"], True),
    ):
        told = Told(response())
        await getattr(AsyncDeadLetters(told), verb)("q", **given)  # type: ignore[arg-type]
        (asked,) = told.asked
        assert (list(asked.job_ids), asked.HasField("filter")) == (names, filtered)


async def test_listings_go_on_to_the_last_page() -> None:
    letters = [[job_pb2.Job(job_id=name) for name in names] for names in ("ab", "c")]
    told = Told(
        wire.ListDeadLettersResponse(jobs=letters[0], next_page_token="more"),
        wire.ListDeadLettersResponse(jobs=letters[1]),
    )
    listed = [job.job_id async for job in AsyncDeadLetters(told).list("q")]  # type: ignore[arg-type]
    assert listed == ["a", "b", "c"]
    assert [asked.page_token for asked in told.asked] == ["", "more"]
    told = Told(
        wire.ListQueuesResponse(queues=[wire.Queue(name="a")], next_page_token="more"),
        wire.ListQueuesResponse(queues=[wire.Queue(name="b")]),
    )
    assert [queue.name async for queue in AsyncQueues(told).list()] == ["a", "b"]  # type: ignore[arg-type]
    assert [asked.page_token for asked in told.asked] == ["", "more"]
    client = AsyncClient("127.0.0.1:1")
    client._calls = told = Told(  # type: ignore[assignment]
        wire.ListWorkersResponse(workers=[wire.WorkerSession(worker="a")], next_page_token="more"),
        wire.ListWorkersResponse(workers=[wire.WorkerSession(worker="b")]),
    )
    assert [session.worker for session in await client.workers()] == ["a", "b"]
    assert [asked.page_token for asked in told.asked] == ["", "more"]


async def test_a_cancel_of_many_goes_on_to_the_last_page() -> None:
    client = AsyncClient("127.0.0.1:1")
    client._calls = told = Told(  # type: ignore[assignment]
        job_service_pb2.CancelJobsResponse(
            cancelled_job_ids=["a"], requested_job_ids=["b"], next_page_token="more"
        ),
        job_service_pb2.CancelJobsResponse(cancelled_job_ids=["c"]),
    )
    seen: list[int] = []
    done = await client.cancel_many("q", dry_run=True, progress=seen.append)
    assert done == CancelledJobs(["a", "c"], ["b"])
    assert (seen, [asked.dry_run for asked in told.asked]) == ([2, 3], [True, True])
    assert [asked.page_token for asked in told.asked] == ["", "more"]
