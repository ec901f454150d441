"""Makes a real `atlasqueue-worker run` write its history: what arrives, and every answer to its reports.

Imported by the handlers' module, so that the process is the product's own command with nothing but this
around it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from atlasqueue.v1.job_pb2 import JOB_STATE_SUCCEEDED
from atlasqueue.v1.worker_service_pb2 import REPORT_STATUS_APPLIED, JobOutcome, ReportResult
from atlasqueue_worker import JobContext
from atlasqueue_worker.executor import Executor
from atlasqueue_worker.outcomes import verb_of
from atlasqueue_worker.worker import Worker
from tests.chaos.names import DIRECTORY_VARIABLE, WHO_VARIABLE
from tests.history.clerk import answer_of, state_of
from tests.history.events import Delivered, Reported, body_hash, value_hash
from tests.history.recorder import Recorder

APPLIED = ReportResult(status=REPORT_STATUS_APPLIED, state=JOB_STATE_SUCCEEDED)


def record_worker() -> Recorder:
    """Wraps the two places where the worker learns something; starts the witness of its own life."""
    recorder = Recorder(Path(os.environ[DIRECTORY_VARIABLE]), os.environ[WHO_VARIABLE])
    start, answered, completed = Executor.start, Worker._answered, Worker._were_completed

    def recorded_start(self: Executor, jobs: list[JobContext]) -> None:
        for job in jobs:
            _delivered(recorder, job)
        start(self, jobs)

    def recorded_answer(
        self: Worker, job: JobContext, outcome: JobOutcome | None, result: ReportResult
    ) -> None:
        _reported(recorder, job, outcome, result)
        answered(self, job, outcome, result)

    def recorded_completed(self: Worker, jobs: Sequence[JobContext]) -> None:
        for job in jobs:
            _reported(recorder, job, None, APPLIED)
        completed(self, jobs)

    Executor.start = recorded_start  # type: ignore[method-assign]
    Worker._answered = recorded_answer  # type: ignore[method-assign]
    Worker._were_completed = recorded_completed  # type: ignore[method-assign]
    recorder.witness()
    return recorder


def _delivered(recorder: Recorder, job: JobContext) -> None:
    recorder.record(
        Delivered,
        queue=job.queue,
        job_id=job.job_id,
        fence=job.fence,
        attempt=job.attempt,
        crashes=job.crashes,
        deliveries=job.deliveries,
        body=body_hash(job.kind, job.payload, job.priority),
    )


def _reported(
    recorder: Recorder, job: JobContext, outcome: JobOutcome | None, result: ReportResult
) -> None:
    kind = verb_of(outcome)
    value = outcome.complete.result if outcome is not None else b""
    recorder.record(
        Reported,
        queue=job.queue,
        job_id=job.job_id,
        fence=job.fence,
        outcome=kind,
        answer=answer_of(result),
        state=state_of(result),
        result=value_hash(value) if kind == "complete" else "",
    )
