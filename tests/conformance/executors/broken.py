"""Executors with one fault each, which the cases that name it must fail.

`python -m tests.conformance.executors.broken FAULT --servers HOST:PORT`. A suite that no SDK can fail proves
nothing; each fault is one that an SDK might well have.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from atlasqueue.errors import AtlasQueueError
from atlasqueue_worker import JobContext
from atlasqueue_worker import executor as worker_executor
from atlasqueue_worker.stream import Stream
from tests.conformance.executors import python


class Broken(python.Executor):
    """Base: ends at once, whatever its handlers still do."""

    async def run(self) -> None:
        await super().run()
        os._exit(0)


class CompletesFailures(Broken):
    """A handler that fails or rejects is reported as complete."""

    def end(self, job: JobContext, name: str, value: Any) -> None:
        if name not in ("fail", "reject"):
            super().end(job, name, value)


class SwallowsReasons(Broken):
    """Errors come without reason and violations."""

    def error(self, error: AtlasQueueError) -> dict[str, Any]:
        return {"reason": "", "message": str(error)}


class AsciiOnly(Broken):
    """Payloads are taken for text."""

    def bytes(self, text: str) -> bytes:
        return super().bytes(text).decode("ascii", "replace").encode()


class MakesNewIds(Broken):
    """The id that the caller gives is not used."""

    def new_job(self, job: dict[str, Any]) -> Any:
        return super().new_job(job | {"job_id": None})


class ForgetsCheckpoints(Broken):
    """Checkpoints are not kept."""

    def act(self, job: JobContext, worker: str, name: str, value: Any) -> bytes | None:
        return None if name == "checkpoint" else super().act(job, worker, name, value)


class AbandonsJobs(Broken):
    """A worker that stops leaves its jobs to their leases."""

    async def call_stop_worker(self, worker: str) -> dict[str, Any]:
        _, running = self._workers.pop(worker)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return {}


class IgnoresCancel(Broken):
    """Handlers are not told to stop."""

    def __init__(self, servers: str) -> None:
        super().__init__(servers)
        JobContext.cancel = lambda _: None  # type: ignore[method-assign]


class NewestFence(Broken):
    """Outcomes are reported under the newest fence of their job, whichever run has ended."""

    def __init__(self, servers: str) -> None:
        super().__init__(servers)
        newest: dict[str, JobContext] = {}
        start = worker_executor.Executor.start

        def noting_start(executor: worker_executor.Executor, jobs: list[JobContext]) -> None:
            newest.update({job.job_id: job for job in jobs})
            start(executor, jobs)

        hand_on = worker_executor.Executor._hand_on

        def confused_hand_on(executor: Any, job: JobContext, outcome: Any) -> None:
            hand_on(executor, newest[job.job_id], outcome)

        worker_executor.Executor.start = noting_start  # type: ignore[method-assign]
        worker_executor.Executor._hand_on = confused_hand_on  # type: ignore[method-assign]


class NeverReconnects(Broken):
    """A stream that has ended is not opened again."""

    def __init__(self, servers: str) -> None:
        super().__init__(servers)
        once = Stream._once

        async def only_once(stream: Any) -> Any:
            if getattr(stream, "was_opened", False):
                await asyncio.Event().wait()
            stream.was_opened = True
            return await once(stream)

        Stream._once = only_once  # type: ignore[method-assign]


FAULTS: dict[str, type[Broken]] = {
    "completes_failures": CompletesFailures,
    "swallows_reasons": SwallowsReasons,
    "ascii_only": AsciiOnly,
    "makes_new_ids": MakesNewIds,
    "forgets_checkpoints": ForgetsCheckpoints,
    "abandons_jobs": AbandonsJobs,
    "ignores_cancel": IgnoresCancel,
    "newest_fence": NewestFence,
    "never_reconnects": NeverReconnects,
}


if __name__ == "__main__":
    python.main(FAULTS[sys.argv[1]], sys.argv[2:])
