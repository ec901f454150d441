# Generated from async_operators.py by scripts/async_to_sync.py (`make generate`). Do not edit.
"""What operators do: queues and dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from atlasqueue.calls import Calls
from atlasqueue.jobs import DeadLetterReason, Job, job_from_proto, to_timestamp
from atlasqueue.queues import (
    Depth,
    Queue,
    QueuePolicy,
    depth_from_proto,
    policy_to_proto,
    queue_from_proto,
)
from atlasqueue.v1 import queue_service_pb2


class Queues:
    """Queues: `client.queues`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self) -> Iterator[Queue]:
        """All queues, by name."""
        request = queue_service_pb2.ListQueuesRequest()
        while True:
            response = self._calls.call(lambda stubs: stubs.queues.ListQueues, request)
            for queue in response.queues:
                yield queue_from_proto(queue)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def get(self, queue: str) -> Queue:
        """A queue. Raises QueueNotFound."""
        request = queue_service_pb2.GetQueueRequest(queue=queue)
        response = self._calls.call(lambda stubs: stubs.queues.GetQueue, request)
        return queue_from_proto(response.queue)

    def update_policy(
        self, queue: str, policy: QueuePolicy, *, fields: Sequence[str] | None = None
    ) -> Queue:
        """Sets the fields of the policy that are not None, or those named in `fields`.

        A field named there and None goes back to the default.
        """
        request = queue_service_pb2.UpdateQueuePolicyRequest(
            queue=queue, policy=policy_to_proto(policy)
        )
        request.update_mask.paths.extend(fields or ())
        response = self._calls.call(lambda stubs: stubs.queues.UpdateQueuePolicy, request)
        return queue_from_proto(response.queue)

    def pause(self, queue: str) -> Queue:
        """Stops leases from the queue."""
        request = queue_service_pb2.PauseQueueRequest(queue=queue)
        response = self._calls.call(lambda stubs: stubs.queues.PauseQueue, request)
        return queue_from_proto(response.queue)

    def resume(self, queue: str) -> Queue:
        """Allows leases from the queue again."""
        request = queue_service_pb2.ResumeQueueRequest(queue=queue)
        response = self._calls.call(lambda stubs: stubs.queues.ResumeQueue, request)
        return queue_from_proto(response.queue)

    def depth(self, queue: str) -> Depth:
        """Jobs by state. Raises QueueNotFound."""
        request = queue_service_pb2.GetDepthRequest(queue=queue)
        response = self._calls.call(lambda stubs: stubs.queues.GetDepth, request)
        return depth_from_proto(response.depth)


class DeadLetters:
    """Dead letters: `client.dead_letters`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(
        self,
        queue: str,
        *,
        kind: str = "",
        reason: DeadLetterReason = DeadLetterReason.UNSPECIFIED,
        died_before: datetime | None = None,
    ) -> Iterator[Job]:
        """A queue's dead letters, each with its last failure. Raises QueueNotFound."""
        request = queue_service_pb2.ListDeadLettersRequest(
            queue=queue, filter=_filter(kind, reason, died_before)
        )
        while True:
            response = self._calls.call(lambda stubs: stubs.queues.ListDeadLetters, request)
            for job in response.jobs:
                yield job_from_proto(job)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def redrive(
        self,
        queue: str,
        *,
        job_ids: Sequence[str] | None = None,
        kind: str = "",
        reason: DeadLetterReason = DeadLetterReason.UNSPECIFIED,
        died_before: datetime | None = None,
        dry_run: bool = False,
    ) -> int:
        """Moves dead letters back to ready: those named, or all that fit. Returns how many.

        Raises QueueNotFound, InvalidField: also for names beside a filter, and for an empty list of names.
        """
        request = queue_service_pb2.RedriveDeadLettersRequest(queue=queue, dry_run=dry_run)
        _choose(request, job_ids, kind, reason, died_before)
        moved = 0
        while True:
            response = self._calls.call(lambda stubs: stubs.queues.RedriveDeadLetters, request)
            moved += int(response.redriven)
            if dry_run or job_ids is not None or not response.more:
                return moved

    def purge(
        self,
        queue: str,
        *,
        job_ids: Sequence[str] | None = None,
        kind: str = "",
        reason: DeadLetterReason = DeadLetterReason.UNSPECIFIED,
        died_before: datetime | None = None,
        dry_run: bool = False,
    ) -> int:
        """Deletes dead letters for good: those named, or all that fit. Returns how many.

        Raises QueueNotFound, InvalidField: also for names beside a filter, and for an empty list of names.
        """
        request = queue_service_pb2.PurgeDeadLettersRequest(queue=queue, dry_run=dry_run)
        _choose(request, job_ids, kind, reason, died_before)
        deleted = 0
        while True:
            response = self._calls.call(lambda stubs: stubs.queues.PurgeDeadLetters, request)
            deleted += int(response.purged)
            if dry_run or job_ids is not None or not response.more:
                return deleted


def _filter(
    kind: str, reason: DeadLetterReason, died_before: datetime | None
) -> queue_service_pb2.DeadLetterFilter:
    return queue_service_pb2.DeadLetterFilter(
        kind=kind,
        reason=reason.value,
        died_before=to_timestamp(died_before) if died_before else None,
    )


def _choose(
    request: Any,
    job_ids: Sequence[str] | None,
    kind: str,
    reason: DeadLetterReason,
    died_before: datetime | None,
) -> None:
    filtered = kind or reason is not DeadLetterReason.UNSPECIFIED or died_before
    if job_ids is not None:
        request.job_ids.extend(job_ids)
    # Names beside a filter are for the server to refuse: to leave one away would take more jobs than were meant.
    if job_ids is None or (job_ids and filtered):
        request.filter.CopyFrom(_filter(kind, reason, died_before))
