"""The workers' side: one handler, registered by kind.

atlasqueue-worker run examples.media_index.app:app --server 127.0.0.1:7420
"""

from __future__ import annotations

from pathlib import Path

from atlasqueue_worker import App, JobContext, Reject
from examples.media_index.index import index_file

app = App()


class FlakyDisk(Exception):
    """Stands for whatever goes away when it is tried again."""


@app.job("index-file", queue="media-index")
def index(job: JobContext) -> object:
    """Indexes one file. `trouble` makes it fail on purpose, so that retries and dead letters are seen."""
    order = job.json()
    trouble = order.get("trouble")
    if trouble == "once" and job.attempt == 0:
        raise FlakyDisk("the first attempt fails on purpose")
    if trouble == "always":
        raise FlakyDisk("every attempt fails on purpose")
    path = Path(order["path"])
    if not path.exists():
        raise Reject(f"{path} is gone: retrying cannot help")
    return index_file(path)
