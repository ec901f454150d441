"""The AtlasQueue worker: runs handlers for leased jobs. Built on the SDK only.

from atlasqueue_worker import App, JobContext

app = App()

@app.job("resize", queue="media")
def resize(job: JobContext) -> bytes:
    return shrink(job.payload)

# atlasqueue-worker run my_module:app
"""

from atlasqueue_worker.app import App
from atlasqueue_worker.job import JobContext, LeaseState
from atlasqueue_worker.metrics import WorkerMetrics
from atlasqueue_worker.outcomes import Cancel, Reject, Release, Retry, Snooze
from atlasqueue_worker.worker import Worker

__all__ = [
    "App",
    "Cancel",
    "JobContext",
    "LeaseState",
    "Reject",
    "Release",
    "Retry",
    "Snooze",
    "Worker",
    "WorkerMetrics",
]
