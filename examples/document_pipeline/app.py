"""The pipeline as jobs: each step enqueues the next one, under an id made from its own.

extract ──▶ analyse ──▶ index        one queue, three kinds
   └─ broken file: reject ──▶ dead letter, until somebody mends the file and redrives

A step that runs twice (its worker died before the report) enqueues its successor twice: the same id and the
same body are one job. It enqueues before it completes, so the chain cannot break between two steps.
"""

from __future__ import annotations

import json
import os
import uuid
from functools import cache
from pathlib import Path

from atlasqueue import AsyncClient
from atlasqueue_worker import App, JobContext, Reject
from examples.document_pipeline.steps import BrokenDocument, analyse, content_name, extract

QUEUE = "documents"
app = App()


@cache
def client() -> AsyncClient:
    """One client for all handlers, made in the worker's event loop on first use."""
    return AsyncClient()


def output() -> Path:
    """Where texts and entries go."""
    return Path(os.environ["PIPELINE_OUTPUT"])


async def enqueue_next(job: JobContext, kind: str, order: dict[str, object]) -> None:
    """The next step of this job's document."""
    successor = str(uuid.uuid5(uuid.UUID(job.job_id), kind))
    payload = json.dumps(order, sort_keys=True).encode()
    await client().enqueue(QUEUE, kind, payload, job_id=successor, headers=job.headers)


@app.job("extract", queue=QUEUE)
async def extract_step(job: JobContext) -> None:
    """Reads the file; keeps its text under a name that the content decides."""
    path = Path(job.json()["path"])
    try:
        text = extract(path)
    except BrokenDocument as error:
        raise Reject(str(error)) from error
    name = content_name(text)
    write_whole(output() / f"{name}.txt", text)
    await enqueue_next(job, "analyse", {"document": path.name, "text": name})


@app.job("analyse", queue=QUEUE)
async def analyse_step(job: JobContext) -> None:
    """Payloads stay small: what is large lies in files, and the jobs carry their names."""
    order = job.json()
    text = (output() / f"{order['text']}.txt").read_text()
    await enqueue_next(job, "index", order | {"analysis": analyse(text)})


@app.job("index", queue=QUEUE)
def index_step(job: JobContext) -> object:
    """A plain handler, run in a thread."""
    order = job.json()
    write_whole(output() / f"{order['document']}.json", json.dumps(order["analysis"]))
    return order["analysis"]


def write_whole(path: Path, text: str) -> None:
    """All or nothing, and no harm if done twice."""
    partly = path.with_suffix(f".{uuid.uuid4().hex}")
    partly.write_text(text)
    partly.rename(path)
