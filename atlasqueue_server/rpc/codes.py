"""The stored one-letter codes and names beside the enums of the contract, each pair once."""

from __future__ import annotations

from atlasqueue.v1 import job_pb2, worker_service_pb2
from atlasqueue_server.model.jobs import ReportStatus
from atlasqueue_server.model.states import State

STATES = {
    State.SCHEDULED: job_pb2.JOB_STATE_SCHEDULED,
    State.READY: job_pb2.JOB_STATE_READY,
    State.LEASED: job_pb2.JOB_STATE_LEASED,
    State.SUCCEEDED: job_pb2.JOB_STATE_SUCCEEDED,
    State.CANCELLED: job_pb2.JOB_STATE_CANCELLED,
    State.DEAD: job_pb2.JOB_STATE_DEAD,
}
STATES_IN = {number: state for state, number in STATES.items()}

REASONS = {
    "a": job_pb2.DEAD_LETTER_REASON_ATTEMPTS_SPENT,
    "r": job_pb2.DEAD_LETTER_REASON_REJECTED,
    "c": job_pb2.DEAD_LETTER_REASON_CRASH_LOOP,
    "d": job_pb2.DEAD_LETTER_REASON_DEADLINE,
    "k": job_pb2.DEAD_LETTER_REASON_UNKNOWN_KIND,
    "b": job_pb2.DEAD_LETTER_REASON_BODY_LOST,
}
REASONS_IN: dict[int, str] = {number: code for code, number in REASONS.items()}

CAUSES = {
    "f": job_pb2.FAILURE_CAUSE_FAILED,
    "r": job_pb2.FAILURE_CAUSE_REJECTED,
    "x": job_pb2.FAILURE_CAUSE_EXPIRED,
    "d": job_pb2.FAILURE_CAUSE_DEADLINE,
    "k": job_pb2.FAILURE_CAUSE_UNKNOWN_KIND,
    "b": job_pb2.FAILURE_CAUSE_BODY_LOST,
}

REPORT_STATUSES = {
    ReportStatus.APPLIED: worker_service_pb2.REPORT_STATUS_APPLIED,
    ReportStatus.ALREADY_APPLIED: worker_service_pb2.REPORT_STATUS_ALREADY_APPLIED,
    ReportStatus.STALE: worker_service_pb2.REPORT_STATUS_STALE,
    ReportStatus.NOT_FOUND: worker_service_pb2.REPORT_STATUS_NOT_FOUND,
}
