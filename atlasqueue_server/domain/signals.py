"""What one part of the cluster tells another so that nobody has to wait for the next poll.

Within a process a signal is a function call. Between servers it is one coalesced NOTIFY per server at
most every 20 ms, in a transaction of its own, because NOTIFY takes a database-wide lock at commit; a server
that is alone sends none.
Every signal is a hint: losing all of them costs latency only, since everything is polled as well.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from atlasqueue_server.model.jobs import LeaseName

A = TypeVar("A")

NOTIFY_INTERVAL_S = 0.02
# PostgreSQL refuses messages of 8000 bytes; the rest is for the envelope.
MESSAGE_BYTES_MAX = 7000
# What is said first when there is more to say than a message holds.
URGENCY = ("joined", "vacant", "cancel", "reopened", "lost", "freed", "queue", "ready")


@dataclass(slots=True)
class Signals:
    """The hub of a process. Listeners are called in the event loop and must not block."""

    ready: list[Callable[[str], None]] = field(default_factory=list)
    freed: list[Callable[[int], None]] = field(default_factory=list)
    lost: list[Callable[[int], None]] = field(default_factory=list)
    cancel: list[Callable[[int, LeaseName], None]] = field(default_factory=list)
    queue_changed: list[Callable[[str], None]] = field(default_factory=list)
    moved: list[Callable[[str], None]] = field(default_factory=list)
    reopened: list[Callable[[int, int], None]] = field(default_factory=list)
    vacant: list[Callable[[], None]] = field(default_factory=list)
    joined: list[Callable[[], None]] = field(default_factory=list)
    _out: dict[str, dict[str, None]] = field(default_factory=dict)
    _something: asyncio.Event = field(default_factory=asyncio.Event)

    def jobs_ready(self, queues: Iterable[str]) -> None:
        """Jobs may be ready in these queues."""
        for queue in queues:
            _call(self.ready, queue)
            self._send("ready", queue)

    def slots_freed(self, session_id: int) -> None:
        """A session holds fewer jobs than before."""
        _call(self.freed, session_id)
        self._send("freed", str(session_id))

    def session_lost(self, session_id: int) -> None:
        """A session was lost."""
        _call(self.lost, session_id)
        self._send("lost", str(session_id))

    def cancel_requested(self, session_id: int, lease: LeaseName) -> None:
        """Cancel was requested for a leased job."""
        for listener in self.cancel:
            listener(session_id, lease)
        self._send("cancel", f"{session_id} {lease.queue} {lease.job_id} {lease.fence}")

    def session_reopened(self, session_id: int, epoch: int) -> None:
        """A session's stream was opened again under this epoch: older ones end."""
        for listener in self.reopened:
            listener(session_id, epoch)
        self._send("reopened", f"{session_id} {epoch}")

    def leadership_vacant(self) -> None:
        """The leader has resigned; told to the other servers only."""
        self._send("vacant", "")

    def server_joined(self) -> None:
        """This server listens from now on; told to the other servers only."""
        self._send("joined", "")

    def queue_updated(self, queue: str) -> None:
        """A queue was paused, resumed or given another policy."""
        _call(self.queue_changed, queue)
        self._send("queue", queue)

    def job_moved(self, job_id: str) -> None:
        """A job changed its state; told within the process only."""
        _call(self.moved, job_id)

    def receive(self, message: str, own_id: str) -> None:
        """A message of another server (its own are passed over)."""
        parsed = json.loads(message)
        if parsed.get("from") == own_id:
            return
        for queue in parsed.get("ready", ()):
            _call(self.ready, queue)
        for queue in parsed.get("queue", ()):
            _call(self.queue_changed, queue)
        for session_id in parsed.get("freed", ()):
            _call(self.freed, int(session_id))
        for session_id in parsed.get("lost", ()):
            _call(self.lost, int(session_id))
        for entry in parsed.get("reopened", ()):
            session_id, epoch = entry.split(" ")
            for reopened in self.reopened:
                reopened(int(session_id), int(epoch))
        for kind, told in (("joined", self.joined), ("vacant", self.vacant)):
            if kind in parsed:
                for listener in told:
                    listener()
        for entry in parsed.get("cancel", ()):
            session_id, queue, job_id, fence = entry.split(" ")
            for cancel in self.cancel:
                cancel(int(session_id), LeaseName(queue, job_id, int(fence)))

    def _send(self, kind: str, item: str) -> None:
        self._out.setdefault(kind, {})[item] = None
        self._something.set()

    async def next_message(self, own_id: str) -> str:
        """The next message for the other servers, once there is something to say."""
        while (message := self.take_message(own_id)) is None:
            self._something.clear()
            await self._something.wait()
        return message

    def take_message(self, own_id: str) -> str | None:
        """What waits to be said, the urgent first, as far as it fits into one message; None: nothing."""
        message: dict[str, object] = {"from": own_id}
        room = MESSAGE_BYTES_MAX
        for kind in URGENCY:
            waiting = self._out.get(kind, {})
            items: list[str] = []
            for item in list(waiting):
                room -= len(item.encode()) + 4
                if room < 0:
                    break
                items.append(item)
                del waiting[item]
            if items:
                message[kind] = items
        return json.dumps(message) if len(message) > 1 else None


def _call(listeners: list[Callable[[A], None]], argument: A) -> None:
    for listener in listeners:
        listener(argument)
