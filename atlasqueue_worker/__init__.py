"""The AtlasQueue worker: runs handlers for leased jobs. Built on the SDK only.

from atlasqueue_worker import App, JobContext

app = App()

@app.job("resize", queue="media")
def resize(job: JobContext) -> bytes:
    return shrink(job.payload)

# atlasqueue-worker run my_module:app
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atlasqueue_worker.app import App, Middleware, Next
from atlasqueue_worker.job import JobContext, LeaseState
from atlasqueue_worker.metrics import WorkerMetrics
from atlasqueue_worker.outcomes import Cancel, Reject, Release, Retry, Snooze

if TYPE_CHECKING:
    from atlasqueue_worker.isolated import HandlerDied, HandlerKilled
    from atlasqueue_worker.worker import Worker

__all__ = [
    "App",
    "Cancel",
    "HandlerDied",
    "HandlerKilled",
    "JobContext",
    "LeaseState",
    "Middleware",
    "Next",
    "Reject",
    "Release",
    "Retry",
    "Snooze",
    "Worker",
    "WorkerMetrics",
]


def __getattr__(name: str) -> Any:
    """What a module of handlers does not need is loaded on first use: a subprocess starts in half the time."""
    if name == "Worker":
        from atlasqueue_worker.worker import Worker

        return Worker
    if name in ("HandlerDied", "HandlerKilled"):
        from atlasqueue_worker import isolated

        return getattr(isolated, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
