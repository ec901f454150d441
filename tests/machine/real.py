"""The verbs of pure.Model on the real store: its functions, its SQL files, a real PostgreSQL.

Time is the database's, and it does not pass here by itself: whatever the store sets for later is put
off for good after each step (`hold_time`), and a step that wants it to be over says so by changing the
row. So nothing sleeps, and an example is the same on a slow machine.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg

from atlasqueue_server.domain.report import by_distinct_fences
from atlasqueue_server.model import limits
from atlasqueue_server.model.jobs import Enqueued, HeldJob, NewJob, Outcome, OutcomeKind
from atlasqueue_server.model.jobs import ReportStatus as Status
from atlasqueue_server.model.retry import RetryPolicy
from atlasqueue_server.model.states import State
from atlasqueue_server.store import dead_letters, enqueue, jobs, lease, report, scheduler, sessions
from atlasqueue_server.store.database import Database
from atlasqueue_server.store.scheduler import Term
from tests.factories import outcome_of
from tests.machine.nouns import Answer, Body, Heard, Held, Key, Lease, Told
from tests.machine.pure import SNOOZE_MS

T = TypeVar("T")

# Later than any test, and the beginning of what is over: turn n is n minutes after it.
LATER = datetime(2100, 1, 1, tzinfo=UTC)
OVER = datetime(2020, 1, 1, tzinfo=UTC)
HOUR_S = 3600.0
TABLES = (
    "jobs scheduled ready leased dead_letters finished failures checkpoints"
    " sessions leader queues depth_deltas depths"
).split()

# Everything that a step may change, as rows of text, in one snapshot.
STATE = """
with place as (
    select queue, job_id, 'scheduled' as state, priority, attempt, crashes, deliveries, fence,
        cause::text as cause, null::bigint as session, false as cancel_requested,
        run_at < %(middle)s as is_over, null::bytea as result
    from atlasqueue.scheduled
    union all
    select queue, job_id, 'ready', priority, attempt, crashes, deliveries, fence, cause::text,
        null, false, false, null from atlasqueue.ready
    union all
    select queue, job_id, 'leased', priority, attempt, crashes, deliveries, fence, null,
        session_id, cancel_requested, coalesce(deadline_at < %(middle)s, false), null
    from atlasqueue.leased
    union all
    select queue, job_id, 'dead', priority, attempt, crashes, deliveries, fence, reason::text,
        null, false, false, null from atlasqueue.dead_letters
    union all
    select queue, job_id, case state when 's' then 'succeeded' else 'cancelled' end, null, attempt,
        crashes, deliveries, fence, null, null, false, false, result from atlasqueue.finished
)
select 'place', to_jsonb(array[
    queue, job_id::text, state, coalesce(priority::text, '-'), attempt::text, crashes::text,
    deliveries::text, fence::text, coalesce(cause, '-'), coalesce(session::text, '-'),
    cancel_requested::text, is_over::text, coalesce(convert_from(result, 'utf8'), '-')])
from place
union all
select 'body', to_jsonb(array[queue, job_id::text, convert_from(payload, 'utf8')])
from atlasqueue.jobs
union all
select 'failure', to_jsonb(array[queue, job_id::text, fence::text, attempt::text, cause::text,
    final::text]) from atlasqueue.failures
union all
select 'checkpoint', to_jsonb(array[queue, job_id::text, fence::text, percent::text,
    convert_from(data, 'utf8')]) from atlasqueue.checkpoints
union all
select 'session', to_jsonb(array[session_id::text, epoch::text, lost::text,
    (expires_at < %(middle)s)::text]) from atlasqueue.sessions
union all
select 'queue', to_jsonb(array[name, paused::text]) from atlasqueue.queues
union all
select 'leader', to_jsonb(array[term::text, holder, (expires_at < clock_timestamp())::text,
    case when ticked_at = %(later)s then 'recent' when ticked_at > %(middle)s then 'late' else 'outage' end])
from atlasqueue.leader
union all
select 'depth', to_jsonb(array[queue, sum(scheduled)::text, sum(ready)::text, sum(leased)::text,
    sum(dead)::text, sum(succeeded)::text, sum(cancelled)::text])
from (table atlasqueue.depth_deltas union all table atlasqueue.depths) d
group by queue
having (sum(scheduled), sum(ready), sum(leased), sum(dead), sum(succeeded), sum(cancelled))
    <> (0, 0, 0, 0, 0, 0)
"""

# Puts off what is set for later; returns how long the jobs that wait anew will wait at most from now.
HOLD_TIME = """
with anew as (
    select queue, job_id, run_at from atlasqueue.scheduled
    where run_at > %(middle)s and run_at <> %(later)s for update
),
held as (
    update atlasqueue.scheduled s set run_at = %(later)s
    from anew where s.queue = anew.queue and s.job_id = anew.job_id
),
heard as (
    update atlasqueue.sessions set expires_at = %(later)s
    where expires_at > %(middle)s and expires_at <> %(later)s
),
ticked as (
    update atlasqueue.leader set ticked_at = %(later)s
    where ticked_at > clock_timestamp() - interval '1 minute' and ticked_at <> %(later)s
)
select queue, job_id::text, extract(epoch from run_at - clock_timestamp())::float8 * 1000 from anew
"""


def job_id_of(number: int) -> str:
    """The n-th id of a small pool."""
    return str(uuid.UUID(int=number))


class Real:
    """The store, one verb a method, called without async."""

    def __init__(self, runner: asyncio.Runner, database: Database, url: str) -> None:
        self._runner = runner
        self._database = database
        self._looker = psycopg.connect(url, autocommit=True)
        self._run(self._database.open())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def _sql(self, statement: str, **params: Any) -> list[tuple[Any, ...]]:
        middle = OVER + (LATER - OVER) / 1000
        everything = {"middle": middle, "later": LATER} | params
        cursor = self._looker.execute(statement.encode(), everything)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Ends the connections."""
        self._looker.close()
        self._run(self._database.close())

    def reset(self, queues: Sequence[str]) -> None:
        """An empty database with some queues."""
        self._sql("truncate " + ", ".join(f"atlasqueue.{table}" for table in TABLES))
        self._sql(
            "insert into atlasqueue.queues (name) select unnest(%(q)s::text[])", q=list(queues)
        )

    # --- producers and operators ---------------------------------------------------------------

    def enqueue(self, batch: Sequence[tuple[Key, Body]]) -> list[Enqueued]:
        """As domain/enqueue.py does it: those that are new, then a second statement for the answers."""
        by_queue: dict[str, list[tuple[Key, Body]]] = defaultdict(list)
        for key, body in batch:
            by_queue[key.queue].append((key, body))
        new = {
            queue: [_new_job(k, b) for k, b in dict(reversed(pairs)).items()]
            for queue, pairs in by_queue.items()
        }
        stored = self._run(enqueue.enqueue_jobs_if_new(self._database, new))
        answers: dict[tuple[Key, Body], Enqueued] = {}
        for queue, pairs in by_queue.items():
            if stored[queue] == len(pairs):
                answers |= dict.fromkeys(pairs, Enqueued.STORED)
                continue
            bodies = [_new_job(*pair) for pair in pairs]
            found = self._run(enqueue.classify_enqueued_jobs(self._database, queue, bodies))
            answers |= {pairs[at]: answer for at, answer in found.items()}
        return [answers[pair] for pair in batch]

    def cancel(self, key: Key) -> jobs.Cancelled:
        """What cancel found."""
        answer = self._run(jobs.cancel_job_if_open(self._database, *key))
        assert answer is not None, "nothing else moved the job meanwhile"
        return answer[0]

    def find_open(self, queue: str, job_ids: list[str], states: set[State]) -> dict[str, bool]:
        """By id, whether it is leased."""
        return dict(self._run(jobs.find_open_jobs(self._database, queue, job_ids, states)))

    def cancel_many(self, queue: str, job_ids: list[str], states: set[State]) -> dict[str, bool]:
        """By id, whether cancel was requested of its worker."""
        moved = self._run(jobs.cancel_jobs_if_open(self._database, queue, job_ids, states))
        return {job_id: session_id is not None for job_id, session_id, _ in moved}

    def pause(self, queue: str, paused: bool) -> None:
        """Pauses or resumes."""
        self._run(self._database.run("pause_queue" if paused else "resume_queue", {"name": queue}))

    def redrive(self, queue: str, job_ids: Sequence[str]) -> int:
        """How many."""
        return self._run(dead_letters.redrive_dead_letters_if_dead(self._database, queue, job_ids))

    def purge(self, queue: str, job_ids: Sequence[str]) -> int:
        """How many."""
        return self._run(dead_letters.purge_dead_letters_if_dead(self._database, queue, job_ids))

    # --- workers -------------------------------------------------------------------------------

    def open(self, queues: tuple[str, ...]) -> int:
        """The new session's id."""
        return self._run(sessions.open_session(self._database, _terms(queues))).session_id

    def reopen(
        self, session_id: int, epoch: int, last_fence: int, queues: tuple[str, ...]
    ) -> set[tuple[Key, State]] | None:
        """As domain/workers.py does it: the epoch first, then what was not delivered."""
        reopened = self._run(
            sessions.reopen_session_if_live(self._database, session_id, epoch, _terms(queues))
        )
        if reopened is None:
            return None
        released = self._run(sessions.release_undelivered(self._database, session_id, last_fence))
        return {(Key(queue, job_id), state) for queue, job_id, state in released}

    def lease(
        self, queue: str, priorities: Sequence[int], session_ids: Sequence[int]
    ) -> list[lease.LeasedRow]:
        """What was leased, in order."""
        windows = [lease.SeqWindow(priority, 0, limits.INT64_MAX) for priority in priorities]
        order = lease.LeaseOrder(windows, session_ids)
        return self._run(lease.lease_jobs_if_ready(self._database, queue, [order]))

    def heartbeat(
        self, session_id: int, epoch: int, held: Sequence[Held], last_fence: int
    ) -> Heard | None:
        """What a heartbeat found."""
        jobs_held = [
            HeldJob(*h.lease.key, h.lease.fence)
            if h.percent is None
            else HeldJob(*h.lease.key, h.lease.fence, h.percent, "", str(h.percent).encode())
            for h in held
        ]
        heard = self._run(
            sessions.heartbeat(self._database, session_id, epoch, jobs_held, last_fence)
        )
        if heard is None:
            return None
        return Heard(
            {Lease(Key(x.queue, x.job_id), x.fence) for x in heard.lost},
            {Lease(Key(x.queue, x.job_id), x.fence) for x in heard.cancel},
            {(Key(queue, job_id), state) for queue, job_id, state in heard.reconciled},
        )

    def report(self, batch: Sequence[Told]) -> list[Answer]:
        """As domain/report.py does it: distinct fences, those that move, then a second statement for
        the others."""
        outcomes = [_outcome(told) for told in batch]
        answers: dict[int, Answer] = {}
        for indices in by_distinct_fences(outcomes):
            found = self._report([outcomes[i] for i in indices])
            answers |= {i: found[outcomes[i].fence] for i in indices}
        return [answers[i] for i in range(len(batch))]

    def _report(self, outcomes: Sequence[Outcome]) -> dict[int, Answer]:
        groups: dict[tuple[str, OutcomeKind], list[Outcome]] = defaultdict(list)
        for outcome in sorted(outcomes, key=lambda o: o.job_id):
            groups[outcome.queue, outcome.kind].append(outcome)
        moved = self._run(report.report_if_fenced(self._database, groups))
        answers = {fence: Answer(Status.APPLIED, state) for fence, state in moved.items()}
        for (queue, _), grouped in groups.items():
            rest = [o for o in grouped if o.fence not in moved]
            found = self._run(report.classify_reports(self._database, queue, rest)) if rest else {}
            answers |= {fence: Answer(Status(answer)) for fence, answer in found.items()}
        return answers

    # --- the scheduler -------------------------------------------------------------------------

    def take_leadership(self, holder: str) -> int | None:
        """The new term."""
        took = scheduler.take_leadership_if_free(self._database, holder, HOUR_S)
        term = self._run(took)
        return term.term if term else None

    def renew_leadership(self, term: Term) -> bool:
        """Whether it leads."""
        return self._run(scheduler.renew_leadership_if_leader(self._database, term, HOUR_S))

    def resign_leadership(self, term: Term) -> None:
        """The term is over, if it was the leader's."""
        self._run(scheduler.resign_leadership_if_leader(self._database, term))

    def lose_sessions(self, term: Term, batch: int) -> list[int]:
        """Which are lost from now on."""
        rows = self._run(scheduler.lose_sessions_if_leader(self._database, term, batch))
        return sorted(row[0] for row in rows)

    def expire(self, term: Term, batch: int) -> list[tuple[Lease, State]]:
        """Which leases expired, and where their jobs stand."""
        rows = self._run(scheduler.expire_leases_if_leader(self._database, term, batch))
        return [(Lease(Key(q, job_id), fence), State(state)) for q, job_id, fence, state in rows]

    def fail_overdue(self, term: Term, batch: int) -> list[tuple[Lease, State]]:
        """Which leases ended by their deadline, and where their jobs stand."""
        rows = self._run(scheduler.fail_overdue_jobs_if_leader(self._database, term, batch))
        return [(Lease(Key(q, job_id), fence), State(state)) for q, job_id, _, fence, state in rows]

    def promote(self, term: Term, queue: str, batch: int) -> int:
        """How many."""
        start = datetime(1970, 1, 1, tzinfo=UTC)
        promoted = scheduler.promote_jobs_if_leader(self._database, term, queue, start, batch)
        return self._run(promoted)[0]

    def fold_depths(self, term: Term) -> int:
        """How many deltas were folded; what they add up to is part of the state."""
        return self._run(scheduler.fold_depths_if_leader(self._database, term))

    def tick(self, term: Term) -> int:
        """As scheduler/tick.py does it: a sign, or after an outage the grace and a sign."""
        if self._run(scheduler.tick_if_leader(self._database, term, HOUR_S, HOUR_S)):
            return 1
        extended = scheduler.extend_by_outage_if_leader(self._database, term, HOUR_S)
        return int(self._run(extended) is not None)

    # --- time ----------------------------------------------------------------------------------

    def comes_due(self, key: Key, turn: int) -> None:
        """The job's run_at has come."""
        self._over("scheduled set run_at", "queue = %(queue)s and job_id = %(job_id)s", turn, key)

    def passes_deadline(self, key: Key, turn: int) -> None:
        """The run's deadline has passed."""
        self._over("leased set deadline_at", "queue = %(queue)s and job_id = %(job_id)s", turn, key)

    def falls_silent(self, session_id: int, turn: int) -> None:
        """The session's time is over."""
        self._over("sessions set expires_at", f"session_id = {session_id}", turn, None)

    def leader_is_over(self) -> None:
        """The leader's lease is over."""
        self._over("leader set expires_at", "true", 0, None)

    def nobody_ticks(self, ticked: str) -> None:
        """The scheduler's last sign: half an hour ago, or before all that is over."""
        at = (
            datetime.now(UTC) - timedelta(minutes=30) if ticked == "late" else OVER - timedelta(365)
        )
        self._sql("update atlasqueue.leader set ticked_at = %(at)s", at=at)

    def _over(self, what: str, which: str, turn: int, key: Key | None) -> None:
        at = OVER + timedelta(minutes=turn)
        params = {"queue": key.queue, "job_id": key.job_id} if key else {}
        self._sql(f"update atlasqueue.{what} = %(at)s where {which}", at=at, **params)

    def hold_time(self) -> dict[Key, float]:
        """Puts off what is set for later; by job that waits anew: for how many ms at most from now."""
        return {Key(queue, job_id): ms for queue, job_id, ms in self._sql(HOLD_TIME)}

    def state(self) -> dict[str, set[tuple[str, ...]]]:
        """Every row that a step may change, by kind."""
        found: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for kind, values in self._sql(STATE):
            assert tuple(values) not in found[kind], f"twice: {kind} {values}"
            found[kind].add(tuple(values))
        return dict(found)


def _new_job(key: Key, body: Body) -> NewJob:
    return NewJob(
        *key,
        kind="email",
        payload=body.payload.encode(),
        priority=body.priority,
        run_at=LATER if body.delayed else None,
        deadline_ms=86_400_000 if body.deadline else None,
        policy=RetryPolicy(max_attempts=body.max_attempts),
    )


def _outcome(told: Told) -> Outcome:
    fields: dict[str, Any] = {}
    if told.kind is OutcomeKind.SNOOZE:
        fields["delay_ms"] = SNOOZE_MS
    if told.kind is OutcomeKind.COMPLETE:
        fields["result"] = str(told.lease.fence).encode()
    return outcome_of(*told.lease.key, told.lease.fence, told.kind, **fields)


def _terms(queues: tuple[str, ...]) -> sessions.SessionTerms:
    return sessions.SessionTerms(queues, 10, "worker", "server-of-tests", False)
