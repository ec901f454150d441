"""The live view: `atlasqueue top`.

A look reads queues with their depths, workers and cluster; rates are the difference of two looks. An outage
is shown in the view, which goes on when a server answers again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from atlasqueue.errors import AtlasQueueError
from atlasqueue.v1 import queue_service_pb2 as pb
from atlasqueue_cli import output, views
from atlasqueue_cli.cluster import all_workers, read_cluster
from atlasqueue_cli.connection import Connection
from atlasqueue_cli.errors import ExitCode, explain
from atlasqueue_cli.options import Settings
from atlasqueue_cli.queues import depths, with_depth

WORKERS_SHOWN = 10
QUEUES_SHOWN = 30


@dataclass(frozen=True)
class Look:
    """What was seen at one moment."""

    at: float
    queues: list[tuple[pb.Queue, pb.Depth]]
    workers: list[pb.WorkerSession]
    cluster: pb.GetClusterResponse


@dataclass(frozen=True)
class Rates:
    """Jobs a second of one queue between two looks."""

    enqueued: float
    succeeded: float


def known(depth: pb.Depth) -> int:
    """Jobs that the queue was ever given, less purged ones."""
    waiting = depth.scheduled + depth.ready + depth.leased + depth.dead
    return int(waiting + depth.succeeded + depth.cancelled)


def rates(before: Look | None, now: Look) -> dict[str, Rates]:
    """By queue; empty with the first look. A purge lets `known` fall: that is no negative enqueue."""
    if before is None or now.at <= before.at:
        return {}
    seconds = now.at - before.at
    old = {queue.name: depth for queue, depth in before.queues}
    found = {}
    for queue, depth in now.queues:
        was = old.get(queue.name, pb.Depth())
        found[queue.name] = Rates(
            max(0, known(depth) - known(was)) / seconds,
            max(0, depth.succeeded - was.succeeded) / seconds,
        )
    return found


def look(connection: Connection) -> Look:
    """Reads everything once."""
    at = time.monotonic()
    return Look(at, depths(connection), all_workers(connection), read_cluster(connection))


def top(settings: Settings, interval: float, count: int | None) -> int:
    """Shows looks until Ctrl-C or until `count` were shown."""
    live = sys.stdout.isatty() and not settings.json
    # The view shows an outage itself, and looks again: no call needs to be repeated in it.
    patient = settings.patience(0.0 if live else 5.0)
    with Connection(patient) as connection:
        connection.on_failure = lambda: None
        try:
            if live:
                _live(connection, interval, count)
            else:
                _plain(settings, connection, interval, count)
        except KeyboardInterrupt:
            # The way to end it, so no failure.
            pass
    return ExitCode.OK


def _plain(settings: Settings, connection: Connection, interval: float, count: int | None) -> None:
    before: Look | None = None
    for _ in _ticks(interval, count):
        now = look(connection)
        _print(settings, now, rates(before, now))
        before = now


def _ticks(interval: float, count: int | None) -> Iterator[int]:
    done = 0
    while True:
        started_at = time.monotonic()
        yield done
        done += 1
        if done == count:
            return
        time.sleep(max(0.0, interval - (time.monotonic() - started_at)))


def _live(connection: Connection, interval: float, count: int | None) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    before: Look | None = None
    view: Any = Text("looking …")
    with Live(view, console=Console(highlight=False), screen=True, auto_refresh=False) as screen:
        for _ in _ticks(interval, count):
            try:
                now = look(connection)
                view = Group(*_parts(now, rates(before, now)))
                before = now
                screen.update(view, refresh=True)
            except AtlasQueueError as error:
                connection.leave(connection.stubs())
                text = explain(error, connection.servers).message
                screen.update(Group(Text(output.clean(text), style="red"), view), refresh=True)


def _print(settings: Settings, now: Look, rate: dict[str, Rates]) -> None:
    if settings.json:
        output.print_json(
            {
                "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "queues": [with_depth(queue, depth) for queue, depth in now.queues],
                "workers": [output.as_dict(worker) for worker in now.workers],
                "cluster": output.as_dict(now.cluster),
            }
        )
    else:
        print(_headline(now))
        for header, rows in _tables(now, rate):
            output.print_table(header, rows)
            print()
    sys.stdout.flush()


def _headline(now: Look) -> str:
    clock = datetime.now().strftime("%H:%M:%S")
    slots = sum(worker.slots for worker in now.workers)
    leased = sum(worker.leased for worker in now.workers)
    return (
        f"{clock}  {len(now.queues)} queues, {len(now.workers)} workers ({leased} of {slots} slots "
        f"busy), {len(now.cluster.servers)} servers; {views.cluster_line(now.cluster)}"
    )


def _tables(now: Look, rate: dict[str, Rates]) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    def busiest(item: tuple[pb.Queue, pb.Depth]) -> tuple[float, float]:
        queue, depth = item
        seen = rate.get(queue.name, Rates(0, 0))
        return (-(seen.enqueued + seen.succeeded), -(depth.ready + depth.leased))

    header = (*views.QUEUE_HEADER[:-1], "IN/s", "DONE/s", "NOTE")
    rows = []
    for queue, depth in sorted(now.queues, key=busiest)[:QUEUES_SHOWN]:
        *cells, note = views.queue_row(queue, depth)
        seen = rate.get(queue.name)
        told = (f"{seen.enqueued:.0f}", f"{seen.succeeded:.0f}") if seen else ("-", "-")
        rows.append((*cells, *told, note))
    yield header, rows
    yield views.WORKER_HEADER, [views.worker_row(w) for w in now.workers[:WORKERS_SHOWN]]


def _parts(now: Look, rate: dict[str, Rates]) -> Iterator[Any]:
    from rich.text import Text

    yield Text(_headline(now), style="bold")
    for header, rows in _tables(now, rate):
        yield Text()
        yield output.table(header, rows)
    hidden = max(0, len(now.queues) - QUEUES_SHOWN), max(0, len(now.workers) - WORKERS_SHOWN)
    if any(hidden):
        yield Text(f"\nnot shown: {hidden[0]} queues, {hidden[1]} workers", style="dim")
