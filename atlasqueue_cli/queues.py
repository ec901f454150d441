"""What `atlasqueue queues`, `pause` and `resume` do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atlasqueue.errors import QueueNotFound
from atlasqueue.jobs import to_duration
from atlasqueue.v1 import queue_service_pb2 as pb
from atlasqueue_cli import output, times, views
from atlasqueue_cli.connection import Connection, pages
from atlasqueue_cli.errors import UsageError
from atlasqueue_cli.options import Settings

DURATIONS = ("initial_backoff", "max_backoff", "visibility_timeout")


def all_queues(connection: Connection) -> list[pb.Queue]:
    """Every queue, by name."""
    request = pb.ListQueuesRequest(page_size=1000)
    found = pages(connection, lambda stubs: stubs.queues.ListQueues, request, "queues", None)
    return [queue for page, _ in found for queue in page]


def depth_of(connection: Connection, queue: str) -> pb.Depth:
    """A queue's jobs by state."""
    response = connection.call(lambda stubs: stubs.queues.GetDepth, pb.GetDepthRequest(queue=queue))
    depth: pb.Depth = response.depth
    return depth


def with_depth(queue: pb.Queue, depth: pb.Depth | None) -> dict[str, Any]:
    """The Queue's JSON, with its Depth beside."""
    tree = output.as_dict(queue)
    return tree if depth is None else tree | {"depth": output.as_dict(depth)}


def list_queues(settings: Settings, depth: bool) -> None:
    """Lists all queues."""
    with Connection(settings) as connection:
        rows = []
        for queue in all_queues(connection):
            counted = depth_of(connection, queue.name) if depth else None
            if settings.json:
                output.print_json(with_depth(queue, counted))
            rows.append(views.queue_row(queue, counted))
    if not settings.json:
        output.print_table(views.QUEUE_HEADER, rows)


def show(settings: Settings, queue: str) -> None:
    """Shows a queue."""
    with Connection(settings) as connection:
        request = pb.GetQueueRequest(queue=queue)
        found = connection.call(lambda stubs: stubs.queues.GetQueue, request).queue
        depth = depth_of(connection, queue)
    _print(settings, found, depth)


def _print(settings: Settings, queue: pb.Queue, depth: pb.Depth | None) -> None:
    if settings.json:
        output.print_json(with_depth(queue, depth))
    else:
        output.print_card(views.queue_card(queue, depth))


def set_policy(
    settings: Settings, queue: str, given: Mapping[str, Any], reset: Sequence[str]
) -> None:
    """Changes the fields that are given, sets back those in `reset`; without either shows the queue."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen and not reset:
        show(settings, queue)
        return
    for name in set(chosen) & set(reset):
        raise UsageError(f"--{name.replace('_', '-')} is set and reset at once")
    request = pb.UpdateQueuePolicyRequest(queue=queue)
    for name, value in chosen.items():
        _set(request.policy, name, value)
    for name in (*chosen, *reset):
        path = name if name == "visibility_timeout" else f"retry_policy.{name}"
        request.update_mask.paths.append(path)
    with Connection(settings) as connection:
        response = connection.call(lambda stubs: stubs.queues.UpdateQueuePolicy, request)
    _print(settings, response.queue, None)


def _set(policy: pb.QueuePolicy, name: str, value: Any) -> None:
    target = policy if name == "visibility_timeout" else policy.retry_policy
    if name in DURATIONS:
        option = f"--{name.replace('_', '-')}"
        getattr(target, name).CopyFrom(to_duration(times.duration(value, option)))
        return
    try:
        setattr(target, name, value)
    except ValueError:
        raise UsageError(f"--{name.replace('_', '-')}: {value} is out of range") from None


def pause(settings: Settings, queues: Sequence[str]) -> None:
    """Pauses queues."""
    with Connection(settings) as connection:
        for queue in queues:
            request = pb.PauseQueueRequest(queue=queue)
            response = connection.call(lambda stubs: stubs.queues.PauseQueue, request)
            _say_done(settings, response.queue, "paused")


def resume(settings: Settings, queues: Sequence[str]) -> None:
    """Resumes queues."""
    with Connection(settings) as connection:
        for queue in queues:
            request = pb.ResumeQueueRequest(queue=queue)
            response = connection.call(lambda stubs: stubs.queues.ResumeQueue, request)
            _say_done(settings, response.queue, "resumed")


def _say_done(settings: Settings, queue: pb.Queue, done: str) -> None:
    if settings.json:
        output.print_json(queue)
    else:
        print(f"{queue.name} {done}")


def depths(connection: Connection) -> list[tuple[pb.Queue, pb.Depth]]:
    """Every queue with its depth; one that goes meanwhile is left out."""
    found = []
    for queue in all_queues(connection):
        try:
            found.append((queue, depth_of(connection, queue.name)))
        except QueueNotFound:
            continue
    return found
