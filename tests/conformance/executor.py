"""An SDK's executor as a process: calls and answers as JSON lines, events in between.

    ──▶ {"id": 1, "call": "enqueue", "job": {…}}
    ◀── {"id": 1, "answer": {"job_id": "…"}}      or {"id": 1, "error": {"reason": "…", "message": "…"}}
    ◀── {"event": "run", "worker": "…", …}

docs/protocol.md names every call and event.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

LINE_BYTES_MAX = 32 << 20
END_S = 10.0


class ExecutorDied(AssertionError):
    """The executor's process has ended, or has said what is no JSON line."""


class Refused(Exception):
    """A call was answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('reason')}: {error.get('message')}")
        self.error = error


class Executor:
    """A running executor. Start it with `start`, end it with `end`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._changed = asyncio.Condition()
        self._death = ""
        self.events: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, command: Sequence[str], servers: str, log: Path, cwd: Path) -> Executor:
        """Starts `command --servers SERVERS`; what it says on stderr goes to `log`."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                "--servers",
                servers,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                cwd=cwd,
                limit=LINE_BYTES_MAX,
            )
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether it can be called."""
        return not self._death

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer. Raises Refused, ExecutorDied."""
        if self._death:
            raise ExecutorDied(self._death)
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        line = json.dumps({"id": number, "call": name, **arguments})
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
        try:
            message = await answer
        finally:
            self._answers.pop(number, None)
        if "error" in message:
            raise Refused(message["error"])
        if not isinstance(message.get("answer"), dict):
            raise ExecutorDied(f"neither answer nor error: {message}")
        return dict(message["answer"])

    async def event(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event that fits and was not taken before, when it is there; it is taken."""
        async with self._changed:
            while True:
                for event in self.events:
                    if not event.get("taken") and fits(event):
                        event["taken"] = True
                        return event
                if self._death:
                    raise ExecutorDied(self._death)
                await self._changed.wait()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process."""
        self._process.send_signal(number)

    async def end(self) -> None:
        """Ends it: closing its input should be enough."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), END_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        death = "the executor has ended"
        try:
            async for line in self._process.stdout:
                await self._take(json.loads(line))
        except (ValueError, KeyError) as error:
            death = f"the executor said what is no line of the protocol: {error}"
        self._death = death
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ExecutorDied(death))
        async with self._changed:
            self._changed.notify_all()

    async def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            async with self._changed:
                self.events.append(message)
                self._changed.notify_all()
            return
        answer = self._answers.get(message["id"])
        if answer is not None and not answer.done():
            answer.set_result(message)
