"""Handlers of the traced worker: one that fails at first, with spans of their own and without."""

from __future__ import annotations

from opentelemetry import trace

from atlasqueue_worker import App, JobContext

app = App()


@app.job("resize", queue="media")
async def resize(job: JobContext) -> None:
    with trace.get_tracer("handler").start_as_current_span("scale"):
        if job.attempt == 0:
            raise ValueError("s3cret of the payload")


@app.job("plain", queue="media")
def plain(job: JobContext) -> None:
    with trace.get_tracer("handler").start_as_current_span("plain work"):
        pass


@app.job("unaware", queue="media")
async def unaware(_job: JobContext) -> None:
    """Looks at no span."""
