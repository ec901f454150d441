"""What the store must do, told again in memory: a job is one row, a verb is one method.

    pure.Model         a dict of rows, no clock, no I/O: what *should* happen
    real.Real          the same verbs on the store and a real PostgreSQL: what does happen
    test_machine.py    draws verbs at random, asks both, compares answers and the whole state

Three things are left to the database, and the model only says whether its choice was a legal one: the
number of a new session, the fence of a new lease, and which of several equals a batch takes. Time does
not pass by itself: `comes_due`, `falls_silent`, `passes_deadline`, `leader_is_over` and `nobody_ticks`
move it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from atlasqueue_server.model import limits
from atlasqueue_server.model.jobs import Enqueued, OutcomeKind, ReportStatus
from atlasqueue_server.model.states import FINAL, State
from atlasqueue_server.store.jobs import Cancelled
from tests.machine.nouns import (
    Answer,
    Body,
    Failed,
    Heard,
    Held,
    Job,
    Key,
    Leader,
    Lease,
    Session,
    Told,
)


def ceiling_ms(failures: int) -> float:
    """The longest backoff after so many failures, with the defaults."""
    return min(
        limits.BACKOFF_CAP_MS_DEFAULT,
        limits.BACKOFF_INITIAL_MS_DEFAULT * limits.BACKOFF_MULTIPLIER_DEFAULT ** (failures - 1),
    )


SNOOZE_MS = 3_600_000


class Model:
    """Queues, jobs, sessions and the leader."""

    def __init__(self, queues: Iterable[str]) -> None:
        self.paused = dict.fromkeys(queues, False)
        self.jobs: dict[Key, Job] = {}
        self.sessions: dict[int, Session] = {}
        self.leader: Leader | None = None
        self.highest_fence = 0
        self._turn = 0

    def _next(self) -> int:
        self._turn += 1
        return self._turn

    # --- producers ---------------------------------------------------------------------------

    def enqueue(self, batch: Sequence[tuple[Key, Body]]) -> list[Enqueued]:
        """I7: an id that exists gets the same answer for the same body, CONFLICT for another."""
        turn = self._next()
        for key, body in batch:
            if key not in self.jobs and body.delayed:
                self.jobs[key] = Job(body, State.SCHEDULED, "e", 0, wait_ms_max=float("inf"))
            elif key not in self.jobs:
                self.jobs[key] = Job(body, State.READY, "e", turn)
        same = [self.jobs[key].body == body for key, body in batch]
        return [Enqueued.STORED if s else Enqueued.CONFLICT for s in same]

    def cancel(self, key: Key) -> Cancelled:
        """At once unless leased; then it is requested."""
        job = self.jobs.get(key)
        if job is None:
            return Cancelled.NOT_FOUND
        if job.state in FINAL:
            return Cancelled.FINAL
        if job.state is State.DEAD:
            return Cancelled.DEAD
        if job.state is State.LEASED:
            job.cancel_requested = True
            return Cancelled.REQUESTED
        self._move(job, State.CANCELLED, None)
        return Cancelled.CANCELLED

    def cancel_many(self, queue: str, job_ids: list[str], states: set[State]) -> dict[str, bool]:
        """Those in one of the states, unless asked before; by id, whether it is leased."""
        found = {}
        for key in (Key(queue, job_id) for job_id in job_ids):
            job = self.jobs.get(key)
            if job is not None and job.state in states and not job.cancel_requested:
                found[key.job_id] = self.cancel(key) is Cancelled.REQUESTED
        return found

    # --- workers -----------------------------------------------------------------------------

    def open(self, session_id: int, queues: tuple[str, ...]) -> None:
        """A new session, numbered by the database."""
        assert session_id not in self.sessions
        self.sessions[session_id] = Session(queues)

    def reopen(self, session_id: int, epoch: int, last_fence: int) -> set[tuple[Key, State]] | None:
        """None: lost, or the epoch is no higher. Else what the old stream had not delivered."""
        session = self.sessions[session_id]
        if session.lost or epoch <= session.epoch:
            return None
        session.epoch, session.silent = epoch, 0
        return self._give_back(lambda key, job: job.fence > last_fence, session_id)

    def lease(
        self, queue: str, priorities: Sequence[int], most: int, taken: Sequence[Lease]
    ) -> None:
        """`taken`, in this order, must be what the queue owes: by lane, then by seniority."""
        waiting = [(priorities.index(j.body.priority), j.turn) for j in self._ready(queue)]
        owed = [] if self.paused[queue] else sorted(waiting)[:most]
        given = [
            (priorities.index(self.jobs[x.key].body.priority), self.jobs[x.key].turn) for x in taken
        ]
        assert given == owed, f"leased {given} (lane, turn), owed {owed}"

    def _ready(self, queue: str) -> list[Job]:
        return [j for k, j in self.jobs.items() if k.queue == queue and j.state is State.READY]

    def grant(self, lease: Lease, session_id: int) -> None:
        """The job is leased under a new fence. I3: no fence twice, and they only grow."""
        job = self.jobs[lease.key]
        assert job.state is State.READY
        assert lease.fence > self.highest_fence, "I3: a fence that is not new"
        self.highest_fence = job.fence = lease.fence
        job.state, job.cause, job.session = State.LEASED, None, session_id
        job.deliveries += 1

    def heartbeat(
        self, session_id: int, epoch: int, held: Sequence[Held], last_fence: int
    ) -> Heard | None:
        """None: the session is lost, or superseded by a higher epoch."""
        session = self.sessions[session_id]
        if session.lost or epoch < session.epoch:
            return None
        session.silent = 0
        fences = {h.lease.fence for h in held}
        reconciled = self._give_back(
            lambda _, job: job.fence <= last_fence and job.fence not in fences, session_id
        )
        for at in held:
            job = self._leased_as(at.lease)
            if job is not None and at.percent is not None:
                job.checkpoint = (at.lease.fence, at.percent)
        mine = [(h.lease, self._leased_as(h.lease)) for h in held]
        lost = {lease for lease, job in mine if job is None or job.session != session_id}
        cancel = {x for x, job in mine if x not in lost and job is not None if job.cancel_requested}
        return Heard(lost, cancel, reconciled)

    def _leased_as(self, lease: Lease) -> Job | None:
        job = self.jobs.get(lease.key)
        return job if job and job.state is State.LEASED and job.fence == lease.fence else None

    def _give_back(
        self, chosen: Callable[[Key, Job], bool], session_id: int
    ) -> set[tuple[Key, State]]:
        turn = self._next()
        moved: set[tuple[Key, State]] = set()
        for key, job in self.jobs.items():
            if job.state is State.LEASED and job.session == session_id and chosen(key, job):
                self._end_lease(job, State.READY, "c", turn=turn)
                moved.add((key, job.state))
        return moved

    def report(self, batch: Sequence[Told]) -> list[Answer]:
        """Each judged under its fence: only the lease that stands can be ended by it."""
        turn = self._next()
        return [self._report(told, turn) for told in batch]

    def _report(self, told: Told, turn: int) -> Answer:
        (key, fence), kind = told
        if key not in self.jobs:
            return Answer(ReportStatus.NOT_FOUND)
        job = self._leased_as(told.lease)
        if job is None:
            stored = self._stored(self.jobs[key], fence, kind)
            return Answer(ReportStatus.ALREADY_APPLIED if stored else ReportStatus.STALE)
        job.accepted[fence] = kind
        match kind:
            case OutcomeKind.COMPLETE:
                self._move(job, State.SUCCEEDED, None)
            case OutcomeKind.CANCEL:
                self._move(job, State.CANCELLED, None)
            case OutcomeKind.RELEASE:
                self._end_lease(job, State.READY, "l", turn=turn)
            case OutcomeKind.SNOOZE:
                self._end_lease(job, State.SCHEDULED, "s", wait_ms=SNOOZE_MS)
            case OutcomeKind.FAIL:
                self._fail(job, "f", "a")
            case OutcomeKind.REJECT:
                job.attempt += 1
                self._failed(job, "r", State.DEAD, "r")
            case OutcomeKind.UNKNOWN_KIND:
                dies = job.unknown_kinds + 1 >= limits.UNKNOWN_KIND_DELIVERIES_MAX
                wait_ms = limits.UNKNOWN_KIND_DELAY_S * 1000
                self._failed(job, "k", State.DEAD if dies else State.SCHEDULED, "k", wait_ms)
        return Answer(ReportStatus.APPLIED, job.state)

    @staticmethod
    def _stored(job: Job, fence: int, kind: OutcomeKind) -> bool:
        """Whether the repeat of an outcome can still be told that it was stored (I4).

        Snooze, release and cancel leave no row of their own in failures: their only trace is where the
        job stands, which the next move wipes, and a cancelled job does not say which of them it was.
        """
        traces = {OutcomeKind.SNOOZE: "s", OutcomeKind.RELEASE: "l", OutcomeKind.CANCEL: None}
        if kind not in traces:
            return job.accepted.get(fence) is kind
        cancelled = job.state is State.CANCELLED
        repeated = job.accepted.get(fence) is kind and job.cause == traces[kind]
        return job.fence == fence and (cancelled or repeated)

    # --- the scheduler -----------------------------------------------------------------------

    def leads(self, term: int, holder: str) -> bool:
        """I8: the guard of every statement of the scheduler."""
        at = self.leader
        return at is not None and not at.over and (at.term, at.holder) == (term, holder)

    def take_leadership(self, holder: str) -> int | None:
        """The new term; None: somebody leads."""
        if self.leader is not None and not self.leader.over:
            return None
        before = self.leader or Leader(0, "")
        self.leader = Leader(before.term + 1, holder, ticked=before.ticked)
        return self.leader.term

    def renew_leadership(self, term: int, holder: str) -> bool:
        """Whether it leads (again): also when its lease was over, while nobody took its place."""
        renews = self.leader is not None and (self.leader.term, self.leader.holder) == (
            term,
            holder,
        )
        if self.leader is not None and renews:
            self.leader.over = False
        return renews

    def nobody_ticks(self, ticked: str) -> None:
        """The scheduler's last sign lies some time back."""
        assert self.leader is not None
        self.leader.ticked = ticked

    def tick(self) -> int:
        """A sign; after an outage every session that is not lost gets its time back first (I9)."""
        assert self.leader is not None
        if self.leader.ticked == "outage":
            for session in self.sessions.values():
                session.silent = session.silent if session.lost else 0
        self.leader.ticked = "recent"
        return 1

    @property
    def _ticks(self) -> bool:
        return self.leader is not None and self.leader.ticked == "recent"

    def leader_is_over(self) -> None:
        """The leader's lease runs out, or it resigns."""
        assert self.leader is not None
        self.leader.over = True

    def lose_sessions(self, batch: int) -> list[int]:
        """expire, first step: silent sessions are lost for good, the longest silent first."""
        if not self._ticks:
            return []
        silent = [(s.silent, at) for at, s in self.sessions.items() if s.silent and not s.lost]
        lost = [at for _, at in sorted(silent)[:batch]]
        for at in lost:
            self.sessions[at].lost = True
        return lost

    def expire(self, batch: int, chosen: Sequence[Lease]) -> list[State]:
        """expire, second step: `chosen` must be leases of lost sessions, as many as fit."""
        of_lost = [
            Lease(key, job.fence)
            for key, job in self.jobs.items()
            if job.session is not None and self.sessions[job.session].lost
        ]
        assert len(set(chosen)) == len(chosen) == min(batch, len(of_lost))
        assert set(chosen) <= set(of_lost)
        jobs = [self.jobs[lease.key] for lease in chosen]
        for job in jobs:
            job.crashes += 1
            dies = job.crashes >= limits.CRASH_CAP
            state = State.DEAD if dies else State.SCHEDULED
            self._failed(job, "x", state, "c", ceiling_ms(job.crashes))
        return [job.state for job in jobs]

    def fail_overdue(self, batch: int) -> list[tuple[Lease, State]]:
        """fail, by the deadline: those that passed it first come first."""
        if not self._ticks:
            return []
        late = [(j.past_deadline, k) for k, j in self.jobs.items() if j.past_deadline]
        jobs = [(key, self.jobs[key]) for _, key in sorted(late)[:batch]]
        for _, job in jobs:
            self._fail(job, "d", "d")
        return [(Lease(key, job.fence), job.state) for key, job in jobs]

    def promote(self, queue: str, batch: int) -> int:
        """scheduled → ready, the earliest first."""
        due = [(j.turn, k) for k, j in self.jobs.items() if j.state is State.SCHEDULED and j.turn]
        chosen = [key for _, key in sorted(due) if key.queue == queue][:batch]
        for key in chosen:
            self._move(self.jobs[key], State.READY, "p", turn=self._next())
        return len(chosen)

    # --- operators ---------------------------------------------------------------------------

    def redrive(self, keys: Iterable[Key]) -> int:
        """dead → ready; attempts and crashes start again, fences and deliveries never do."""
        turn = self._next()
        dead = self._dead(keys)
        for key in dead:
            job = self.jobs[key]
            job.attempt = job.crashes = 0
            self._move(job, State.READY, "r", turn=turn)
            job.comebacks += 1
        return len(dead)

    def purge(self, keys: Iterable[Key]) -> int:
        """dead → gone, with all that is known of it."""
        dead = self._dead(keys)
        for key in dead:
            del self.jobs[key]
        return len(dead)

    def _dead(self, keys: Iterable[Key]) -> list[Key]:
        return [k for k in keys if k in self.jobs and self.jobs[k].state is State.DEAD]

    # --- time --------------------------------------------------------------------------------

    def comes_due(self, key: Key) -> int:
        """run_at of a scheduled job has come: its turn."""
        self.jobs[key].turn = self._next()
        return self.jobs[key].turn

    def falls_silent(self, session_id: int) -> int:
        """No heartbeat for the visibility timeout: its turn."""
        self.sessions[session_id].silent = self._next()
        return self.sessions[session_id].silent

    def passes_deadline(self, key: Key) -> int:
        """The run of a leased job has lasted too long: its turn."""
        self.jobs[key].past_deadline = self._next()
        return self.jobs[key].past_deadline

    # --- moves -------------------------------------------------------------------------------

    def _move(self, job: Job, state: State, cause: str | None, turn: int = 0) -> None:
        job.state, job.cause, job.turn = state, cause, turn
        job.session, job.cancel_requested, job.past_deadline = None, False, 0

    def _end_lease(
        self, job: Job, state: State, cause: str | None, turn: int = 0, wait_ms: float = 0
    ) -> None:
        """The end of a lease; a cancel that was requested wins over every end but complete."""
        if job.cancel_requested:
            state, cause = State.CANCELLED, None
        self._move(job, state, cause, turn if state is State.READY else 0)
        job.wait_ms_max = wait_ms
        job.comebacks += state in (State.READY, State.SCHEDULED)

    def _failed(self, job: Job, cause: str, state: State, reason: str, wait_ms: float = 0) -> None:
        final = state is State.DEAD and not job.cancel_requested
        job.failures.append(Failed(job.fence, job.attempt, cause, final))
        self._end_lease(job, state, reason if state is State.DEAD else cause, wait_ms=wait_ms)

    def _fail(self, job: Job, cause: str, reason: str) -> None:
        state = State.DEAD if job.attempts_spent else State.SCHEDULED
        job.attempt += 1
        self._failed(job, cause, state, reason, ceiling_ms(job.attempt))
