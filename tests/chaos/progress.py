"""How far a run has come, by the histories that its processes write: works while everything else is down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path

WAIT_S = 120.0
POLL_S = 0.03


class Stuck(AssertionError):
    """What was waited for did not happen."""


class Progress:
    """Counts what the files of a directory say, reading only what is new."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, int] = {}
        self.acknowledged = 0
        self.delivered = 0
        self.accepted: set[str] = set()
        self.refused = 0
        self._workers_of: dict[str, list[str]] = {}

    def update(self) -> None:
        """Reads on."""
        for file in self._directory.glob("*.jsonl"):
            with file.open("rb") as stream:
                stream.seek(self._read.get(file, 0))
                text = stream.read()
            whole, _, _ = text.rpartition(b"\n")
            if not whole:
                continue
            self._read[file] = self._read.get(file, 0) + len(whole) + 1
            for line in whole.split(b"\n"):
                if b'"alive"' not in line:
                    self._count(json.loads(line))

    def _count(self, event: dict[str, str]) -> None:
        match event["event"]:
            case "enqueued":
                self.acknowledged += event["answer"] == "ok"
            case "delivered":
                self.delivered += 1
                self._workers_of.setdefault(event["job_id"], []).append(event["who"])
            case "reported":
                if event["answer"] in ("stale", "not_found"):
                    self.refused += 1
                elif event["outcome"] in ("complete", "cancel"):
                    self.accepted.add(event["job_id"])
            case _:
                pass

    def deliveries(self, job_id: str) -> list[str]:
        """The workers that a job was delivered to, in turn."""
        return self._workers_of.get(job_id, [])

    def held_by(self, who: str, job_ids: Iterable[str]) -> set[str]:
        """Those of the jobs that a worker was the last to get."""
        return {job_id for job_id in job_ids if self.deliveries(job_id)[-1:] == [who]}

    def redelivered(self, job_ids: Iterable[str]) -> set[str]:
        """Those of the jobs that were delivered more than once."""
        return {job_id for job_id in job_ids if len(self.deliveries(job_id)) > 1}

    async def until(self, condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
        """Waits for a condition on the counts. Raises Stuck."""
        deadline = asyncio.get_running_loop().time() + wait_s
        self.update()
        while not condition():
            if asyncio.get_running_loop().time() > deadline:
                raise Stuck(f"{what}: not within {wait_s:g} s ({self})")
            await asyncio.sleep(POLL_S)
            self.update()

    async def completed(self, jobs: int) -> None:
        """Waits until so many jobs have an accepted outcome."""
        await self.until(lambda: len(self.accepted) >= jobs, f"{jobs} jobs completed")

    def __str__(self) -> str:
        """The counts, for people."""
        return (
            f"{self.acknowledged} acknowledged, {self.delivered} delivered, "
            f"{len(self.accepted)} completed, {self.refused} refused"
        )
