"""What the verbs did: counted, and at level debug logged job by job.

The verbs hand in what one statement moved, after its commit. Counting is done by the batch: per job there
is one entry in a dict from lease to report, which knows the kind (a report does not name it) and when
the lease began. One note serves all jobs of a kind in a batch:

    lease   fences ──▶ {fence: Run(queue, kind, at)}          one Run a batch and kind
    report  fences ──pop──▶ Counter({Run: n}) ──▶ completed += n, run time observed n times
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, repeat
from typing import Final

from prometheus_client import CollectorRegistry

from atlasqueue_server.logs import log_verb
from atlasqueue_server.metrics.families import SIZES, CounterFamily, HistogramFamily
from atlasqueue_server.metrics.names import UNKNOWN, Names
from atlasqueue_server.model.columns import CompletedJobs, UniformJobs
from atlasqueue_server.model.jobs import NewJob, Outcome, OutcomeKind, Reported, ReportStatus
from atlasqueue_server.model.states import State, Verb
from atlasqueue_server.store.lease import LeasedRow

# Leases that end elsewhere are never asked for: the oldest are forgotten.
RUNS_MAX: Final = 100_000

VERBS: Final = {
    OutcomeKind.COMPLETE: Verb.COMPLETE,
    OutcomeKind.FAIL: Verb.FAIL,
    OutcomeKind.REJECT: Verb.REJECT,
    OutcomeKind.SNOOZE: Verb.SNOOZE,
    OutcomeKind.RELEASE: Verb.RELEASE,
    OutcomeKind.CANCEL: Verb.CANCEL,
    OutcomeKind.UNKNOWN_KIND: Verb.UNKNOWN_KIND,
}
REASONS: Final = {
    OutcomeKind.FAIL: "attempts_spent",
    OutcomeKind.REJECT: "rejected",
    OutcomeKind.UNKNOWN_KIND: "unknown_kind",
}
_PAIR: Final = ("queue", "kind")
_log = logging.getLogger("atlasqueue")


class Run:
    """Jobs of a kind that were leased together; `at` in monotonic seconds, None: leased elsewhere."""

    __slots__ = ("at", "kind")

    def __init__(self, kind: str, at: float | None) -> None:
        self.kind = kind
        self.at = at


ELSEWHERE: Final = Run(UNKNOWN, None)


class Journal:
    """One server's account of its jobs."""

    def __init__(
        self, registry: CollectorRegistry | None = None, names: Names | None = None
    ) -> None:
        registry = registry or CollectorRegistry()
        self.names = names or Names()
        self._runs: dict[int, Run] = {}
        # Only at level debug: fence → trace id.
        self._traces: dict[int, str] = {}
        self._make_counters(registry)
        self._make_histograms(registry)

    def _make_counters(self, registry: CollectorRegistry) -> None:
        def counter(name: str, help_text: str, labels: Sequence[str] = _PAIR) -> CounterFamily:
            return CounterFamily(registry, f"atlasqueue_{name}", help_text, labels)

        self._enqueued = counter("jobs_enqueued", "Jobs stored by enqueue.")
        self._promoted = counter("jobs_promoted", "Scheduled jobs that became ready.", ["queue"])
        self._leased = counter("jobs_leased", "Leases granted.")
        self._completed = counter("jobs_completed", "Jobs that succeeded.")
        self._retried = counter("jobs_retried", "Failed attempts after which the job runs again.")
        self._dead_lettered = counter(
            "jobs_dead_lettered", "Jobs that became dead letters.", [*_PAIR, "reason"]
        )
        self._expired = counter("jobs_expired", "Leases whose worker stopped sending heartbeats.")
        self._cancelled = counter("jobs_cancelled", "Jobs that became cancelled.")
        self._snoozed = counter("jobs_snoozed", "Leases that ended in a snooze.")
        self._released = counter("jobs_released", "Leases given back without an attempt spent.")
        self._set_aside = counter("jobs_set_aside", "Leases given back for want of a handler.")
        self._reconciled = counter(
            "jobs_reconciled", "Leases taken back because a heartbeat did not name them.", ["queue"]
        )
        self._redriven = counter("jobs_redriven", "Dead letters made ready again.", ["queue"])
        self._purged = counter("jobs_purged", "Dead letters deleted by an operator.", ["queue"])
        self._pruned = counter("jobs_pruned", "Jobs deleted by age.", ())
        self._repeated = counter(
            "enqueues_repeated", "Jobs of enqueue calls whose id was stored already.", ["queue"]
        )
        self._refused = counter(
            "reports_refused", "Reports that changed nothing.", ["queue", "status"]
        )
        self._reports_repeated = counter(
            "reports_repeated", "Reports that an earlier call had applied already.", ["queue"]
        )
        self._sweeps = counter(
            "lease_sweeps", "Lease statements that swept for what committed late.", ()
        )

    def _make_histograms(self, registry: CollectorRegistry) -> None:
        def sizes(name: str, help_text: str, labels: Sequence[str] = ()) -> HistogramFamily:
            return HistogramFamily(registry, f"atlasqueue_{name}", help_text, labels, SIZES)

        self._wait = HistogramFamily(
            registry,
            "atlasqueue_job_wait_seconds",
            "Time in queue, from when a job could first have been leased to its first lease.",
            ["queue"],
        )
        self._run = HistogramFamily(
            registry,
            "atlasqueue_job_run_seconds",
            "Run time, from the lease to the stored report.",
            _PAIR,
        )
        self._enqueue_batch = sizes("enqueue_batch_jobs", "Jobs in a call of enqueue.")
        self._lease_batch = sizes("lease_batch_jobs", "Jobs that one lease statement took.")
        self._report_batch = sizes("report_batch_jobs", "Outcomes in a call of Report.")
        self._commit_batch = sizes("commit_batch_jobs", "Rows that shared a commit.", ["verb"])

    def called_enqueue(self, jobs: int) -> None:
        """A call brought so many jobs."""
        self._enqueue_batch.observe((), jobs)

    def called_report(self, outcomes: int) -> None:
        """A call brought so many outcomes."""
        self._report_batch.observe((), outcomes)

    def committed_enqueues(self, rows: int) -> None:
        """So many jobs go into one commit."""
        self._commit_batch.observe(("enqueue",), rows)

    def committed_reports(self, rows: int) -> None:
        """So many outcomes go into one commit."""
        self._commit_batch.observe(("report",), rows)

    def enqueued(self, queue: str, jobs: Sequence[NewJob], new: int, asked: int) -> None:
        """Jobs of one commit, how many of them were new, and how many were asked for, ids that repeat too."""
        if new == len(jobs):
            for kind, count in _kinds(jobs).items():
                self._enqueued.inc(self.names.pair(queue, kind), count)
        elif new:
            # Which ones were new nobody has asked the database.
            kinds = {job.kind for job in jobs}
            kind = kinds.pop() if len(kinds) == 1 else UNKNOWN
            self._enqueued.inc(self.names.pair(queue, kind), new)
        if asked > new:
            self._repeated.inc((self.names.queue(queue),), asked - new)
        if _log.isEnabledFor(logging.DEBUG):
            for job in jobs:
                log_verb(
                    Verb.ENQUEUE, queue=queue, job=job.job_id, kind=job.kind,
                    trace=trace_id(job.headers_json), new=new == len(jobs) or None,
                )  # fmt: skip

    def leased(self, queue: str, rows: Sequence[LeasedRow]) -> None:
        """Jobs that one statement leased."""
        now = time.monotonic()
        self._lease_batch.observe((), len(rows))
        fences = [row.fence for row in rows]
        kinds = {row.kind for row in rows}
        if len(kinds) == 1:
            kind = kinds.pop() or UNKNOWN
            self._leased.inc(self.names.pair(queue, kind), len(rows))
            self._runs.update(dict.fromkeys(fences, Run(kind, now)))
        else:
            runs = {kind: Run(kind or UNKNOWN, now) for kind in kinds}
            for each, count in Counter(row.kind for row in rows).items():
                self._leased.inc(self.names.pair(queue, each or UNKNOWN), count)
            self._runs.update(zip(fences, [runs[row.kind] for row in rows], strict=True))
        if len(self._runs) > RUNS_MAX:
            for fence in list(islice(self._runs, RUNS_MAX // 2)):
                del self._runs[fence]
        waits = [row.waited_s for row in rows if row.waited_s is not None]
        if waits:
            self._wait.observe_all((self.names.queue(queue),), waits)
        if _log.isEnabledFor(logging.DEBUG):
            self._log_leased(queue, rows)

    def _log_leased(self, queue: str, rows: Sequence[LeasedRow]) -> None:
        if len(self._traces) > RUNS_MAX:
            self._traces.clear()
        for row in rows:
            if trace := trace_id(row.headers_json):
                self._traces[row.fence] = trace
            log_verb(
                Verb.LEASE, queue=queue, job=row.job_id, session=row.session_id, fence=row.fence,
                kind=row.kind, delivery=row.deliveries, trace=trace,
            )  # fmt: skip

    def swept(self) -> None:
        """A lease statement sweeps."""
        self._sweeps.inc()

    def reported(
        self,
        groups: Mapping[tuple[str, OutcomeKind], Sequence[Outcome]],
        moved: Mapping[int, State],
    ) -> None:
        """Outcomes of one commit by queue and verb, and where those that moved stand now."""
        now = time.monotonic()
        debug = _log.isEnabledFor(logging.DEBUG)
        all_moved = len(moved) == sum(map(len, groups.values()))
        for (queue, verb), outcomes in groups.items():
            fences = [o.fence for o in outcomes if all_moved or o.fence in moved]
            if debug:
                self._log_moved(queue, VERBS[verb], outcomes, moved)
            if verb is OutcomeKind.COMPLETE:
                self._count_completed(queue, fences, now)
                continue
            for fence in fences:
                run = self._runs.pop(fence, ELSEWHERE)
                pair = self.names.pair(queue, run.kind)
                if run.at is not None:
                    self._run.observe(pair, now - run.at)
                self._count_ended(pair, verb, moved[fence])

    def completed(self, jobs: CompletedJobs, moved: Sequence[int]) -> None:
        """Completes without a result of one commit, and the fences of those that moved."""
        if _log.isEnabledFor(logging.DEBUG):
            states = dict.fromkeys(moved, State.SUCCEEDED)
            self._log_moved(jobs.queue, Verb.COMPLETE, jobs, states)
        self._count_completed(jobs.queue, moved, time.monotonic())

    def _count_completed(self, queue: str, fences: Iterable[int], now: float) -> None:
        runs = Counter(map(self._runs.pop, fences, repeat(ELSEWHERE)))
        for run, count in runs.items():
            pair = self.names.pair(queue, run.kind)
            self._completed.inc(pair, count)
            if run.at is not None:
                self._run.observe(pair, now - run.at, count)

    def _count_ended(self, pair: tuple[str, str], verb: OutcomeKind, state: State) -> None:
        if state is State.DEAD:
            self._dead_lettered.inc((*pair, REASONS[verb]))
        elif state is State.CANCELLED:
            self._cancelled.inc(pair)
        elif verb is OutcomeKind.FAIL:
            self._retried.inc(pair)
        elif verb is OutcomeKind.SNOOZE:
            self._snoozed.inc(pair)
        elif verb is OutcomeKind.UNKNOWN_KIND:
            self._set_aside.inc(pair)
        else:
            self._released.inc(pair)

    def _log_moved(
        self, queue: str, verb: Verb, outcomes: Iterable[Outcome], moved: Mapping[int, State]
    ) -> None:
        for each in outcomes:
            if each.fence in moved:
                run = self._runs.get(each.fence, ELSEWHERE)
                log_verb(
                    verb, queue=queue, job=each.job_id, fence=each.fence,
                    kind=None if run is ELSEWHERE else run.kind, state=moved[each.fence].value,
                    trace=self._traces.pop(each.fence, None),
                )  # fmt: skip

    def not_applied(self, outcomes: Iterable[Outcome], settled: Mapping[int, Reported]) -> None:
        """Outcomes that moved nothing, and what became of them."""
        for outcome in outcomes:
            answer = settled.get(outcome.fence)
            if answer is None:
                continue
            self._runs.pop(outcome.fence, None)
            queue = self.names.queue(outcome.queue)
            if answer.status is ReportStatus.ALREADY_APPLIED:
                self._reports_repeated.inc((queue,))
            else:
                self._refused.inc((queue, answer.status.value))
            log_verb(
                VERBS[outcome.kind], queue=outcome.queue, job=outcome.job_id, fence=outcome.fence,
                refused=answer.status.value,
            )  # fmt: skip

    def buried(self, queue: str, count: int) -> None:
        """Jobs without a body became dead letters."""
        self._dead_lettered.inc((*self.names.pair(queue, UNKNOWN), "body_lost"), count)

    def expired(self, queue: str, job_id: str, fence: int, state: str) -> None:
        """The scheduler expired a lease."""
        pair = self._end(queue, fence)
        self._expired.inc(pair)
        self._count_by_scheduler(pair, state, "crash_loop")
        log_verb(Verb.EXPIRE, queue=queue, job=job_id, fence=fence, state=state)

    def passed_deadline(self, queue: str, fence: int, state: str) -> None:
        """The scheduler failed a job that ran past its deadline."""
        pair = self._end(queue, fence)
        if state == State.SCHEDULED:
            self._retried.inc(pair)
        self._count_by_scheduler(pair, state, "deadline")

    def _end(self, queue: str, fence: int) -> tuple[str, str]:
        return self.names.pair(queue, self._runs.pop(fence, ELSEWHERE).kind)

    def _count_by_scheduler(self, pair: tuple[str, str], state: str, reason: str) -> None:
        if state == State.DEAD:
            self._dead_lettered.inc((*pair, reason))
        elif state == State.CANCELLED:
            self._cancelled.inc(pair)

    def cancelled(self, queue: str, job_id: str) -> None:
        """A job that nobody worked on was cancelled."""
        self._cancelled.inc(self.names.pair(queue, UNKNOWN))
        log_verb(Verb.CANCEL, queue=queue, job=job_id, state=State.CANCELLED.value)

    def cancel_requested(
        self, queue: str, job_id: str, session: int | None, fence: int | None
    ) -> None:
        """Cancel was requested of a leased job."""
        log_verb(Verb.CANCEL, queue=queue, job=job_id, session=session, fence=fence)

    def promoted(self, queue: str, count: int) -> None:
        """Scheduled jobs became ready."""
        if count:
            self._promoted.inc((self.names.queue(queue),), count)
            log_verb(Verb.PROMOTE, queue=queue, jobs=count)

    def reconciled(self, session: int, jobs: Iterable[tuple[str, str, State]]) -> None:
        """Leases (queue, id, where it stands) that a heartbeat did not name were taken back."""
        for queue, job_id, state in jobs:
            self._reconciled.inc((self.names.queue(queue),))
            if state is State.CANCELLED:
                self._cancelled.inc(self.names.pair(queue, UNKNOWN))
            log_verb(Verb.RECONCILE, queue=queue, job=job_id, session=session, state=state.value)

    def redriven(self, queue: str, count: int) -> None:
        """Dead letters became ready."""
        self._redriven.inc((self.names.queue(queue),), count)
        log_verb(Verb.REDRIVE, queue=queue, jobs=count)

    def purged(self, queue: str, count: int) -> None:
        """Dead letters were deleted."""
        self._purged.inc((self.names.queue(queue),), count)
        log_verb(Verb.PURGE, queue=queue, jobs=count)

    def pruned(self, count: int) -> None:
        """Old jobs were deleted."""
        if count:
            self._pruned.inc((), count)
            log_verb(Verb.PRUNE, jobs=count)


def trace_id(headers_json: str | None) -> str | None:
    """The trace that a job belongs to, by its header `traceparent` (W3C Trace Context)."""
    if not headers_json or "traceparent" not in headers_json:
        return None
    parts = str(json.loads(headers_json).get("traceparent", "")).split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else None


def _kinds(jobs: Sequence[NewJob]) -> Mapping[str, int]:
    """How many of each kind."""
    if isinstance(jobs, UniformJobs):
        return {jobs.shared.kind: len(jobs)}
    return Counter(job.kind for job in jobs)
