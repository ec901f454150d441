"""The worker's session: which one it is, its epoch and its clocks. Shared by stream and heartbeats."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from atlasqueue.v1 import worker_service_pb2


@dataclass(slots=True)
class Clocks:
    """The session's intervals, seconds."""

    visibility_timeout: float = 30.0
    heartbeat: float = 10.0
    ping: float = 5.0


class Session:
    """session_id 0 until the first stream is open. The epoch rises before each stream is asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.session_id = 0
        self.epoch = 0
        self.clocks = Clocks()
        # Another session is open: its heartbeats begin now, not when that of the one before is due.
        self.wake = threading.Event()

    def next_epoch(self) -> tuple[int, int]:
        """(session_id, epoch) to ask for the next stream with."""
        with self._lock:
            self.epoch += 1
            return self.session_id, self.epoch

    def opened_as(self, opened: worker_service_pb2.SessionOpened) -> None:
        """The server has named the session."""
        with self._lock:
            changed = opened.session_id != self.session_id
            self.session_id = opened.session_id
            self.epoch = opened.epoch
            self.clocks = Clocks(
                opened.visibility_timeout.ToTimedelta().total_seconds(),
                opened.heartbeat_interval.ToTimedelta().total_seconds(),
                opened.ping_interval.ToTimedelta().total_seconds(),
            )
        if changed:
            self.wake.set()

    def named(self) -> tuple[int, int]:
        """(session_id, epoch)."""
        with self._lock:
            return self.session_id, self.epoch

    def forget(self, session_id: int) -> bool:
        """The session is lost: the next stream asks for a new one. False if another is on already."""
        with self._lock:
            if session_id != self.session_id or not session_id:
                return False
            self.session_id = 0
            self.epoch = 0
        return True
