"""Random verbs against the model and the store: the answers and the whole state are the same after each.

    draw a verb ──▶ real.Real    answer ─┐ the same?
             └────▶ pure.Model   answer ─┘
    and after it:   every row of the database = every row of the model; the invariants hold

A verb that would have nothing to do is mostly not drawn, so that a short run gets far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from atlasqueue_server.model.jobs import Enqueued, OutcomeKind
from atlasqueue_server.model.states import OPEN, State
from atlasqueue_server.store.lease import LeasedRow
from atlasqueue_server.store.scheduler import Term
from tests.machine.compare import History, difference, rows_of
from tests.machine.draws import ALL, BODIES, FENCE_OFF, KEYS, KINDS, LEASES, QUEUES, TICKS, beside
from tests.machine.nouns import Body, Held, Job, Key, Lease, Told
from tests.machine.pure import Model
from tests.machine.real import Real

STEPS = 50
PROGRESS = 100


class Machine(RuleBasedStateMachine):
    """One example: a fresh model beside an empty database."""

    real: ClassVar[Real]
    # What the run has met, for the test that it meets enough; and how far it is.
    met: ClassVar[Counter[str]] = Counter()
    examples: ClassVar[int] = 0

    session_ids = Bundle("session_ids")
    terms = Bundle("terms")

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        if self.examples % PROGRESS == 0:
            print(f"{type(self).__name__}: {self.examples} examples", flush=True)
        self.model = Model(QUEUES)
        self.history = History()
        self.granted: list[Lease] = []
        self.real.reset(QUEUES)
        # Hypothesis leaves verbs out of an example, many of most examples, to reach strange states; a
        # short run then hardly meets a lease. So three examples of four have them all.
        few = self._rules_strategy.enabled_rules_strategy
        some = st.sampled_from([ALL, ALL, ALL, few]).flatmap(
            lambda x: few if x is few else st.just(x)
        )
        self._rules_strategy.enabled_rules_strategy = st.shared(some, key="verbs of the example")

    # --- producers and operators ---------------------------------------------------------------

    @initialize(batch=st.lists(st.tuples(KEYS, BODIES), min_size=3, max_size=6))
    def first_jobs(self, batch: list[tuple[Key, Body]]) -> None:
        self.enqueue(batch)

    @rule(batch=st.lists(st.tuples(KEYS, BODIES), min_size=1, max_size=3))
    def enqueue(self, batch: list[tuple[Key, Body]]) -> None:
        answers = self.real.enqueue(batch)
        assert answers == self.model.enqueue(batch)
        for (key, _), answer in zip(batch, answers, strict=True):
            self.met[f"enqueue {answer}"] += 1
            if answer is Enqueued.STORED:
                self.history.enqueued(key)

    @rule(data=st.data(), key=KEYS, is_open=st.booleans())
    def cancel(self, data: st.DataObject, key: Key, is_open: bool) -> None:
        open_states = State.SCHEDULED, State.READY, State.LEASED
        if is_open and self._in(*open_states):
            key = self._draw(data, *open_states)
        found = self.real.cancel(key)
        assert found == self.model.cancel(key)
        self.met[f"cancel {found}"] += 1

    @rule(
        keys=st.sets(KEYS, min_size=1, max_size=4),
        states=st.sets(st.sampled_from(sorted(OPEN)), min_size=1),
    )
    def cancel_many(self, keys: set[Key], states: set[State]) -> None:
        queue = min(keys).queue
        job_ids = sorted(key.job_id for key in keys if key.queue == queue)
        planned = self.real.find_open(queue, job_ids, states)
        assert planned == self.real.cancel_many(queue, job_ids, states)
        assert planned == self.model.cancel_many(queue, job_ids, states)
        self.met["cancel many"] += len(planned)

    @rule(queue=st.sampled_from(QUEUES), paused=st.sampled_from([False, False, True]))
    def pause_or_resume(self, queue: str, paused: bool) -> None:
        self.real.pause(queue, paused)
        self.model.paused[queue] = paused

    @precondition(lambda self: self._in(State.DEAD))
    @rule(data=st.data(), other=KEYS, redrives=st.booleans())
    def redrive_or_purge(self, data: st.DataObject, other: Key, redrives: bool) -> None:
        key = self._draw(data, State.DEAD)
        keys = {key, other._replace(queue=key.queue)}
        job_ids = [k.job_id for k in keys]
        dead = keys.intersection(self._in(State.DEAD))
        if redrives:
            assert self.real.redrive(key.queue, job_ids) == self.model.redrive(keys) == len(dead)
            self.history.redriven(dead)
        else:
            assert self.real.purge(key.queue, job_ids) == self.model.purge(keys) == len(dead)
            self.history.purged(dead)
        self.met["redrive" if redrives else "purge"] += len(dead)

    def _session(self, data: st.DataObject, any_session: int, holds: bool) -> int:
        """One that holds jobs, if it should and there is one."""
        holding = sorted({j.session for j in self.model.jobs.values() if j.session is not None})
        return data.draw(st.sampled_from(holding)) if holds and holding else any_session

    def _in(self, *states: State) -> list[Key]:
        return sorted(key for key, job in self.model.jobs.items() if job.state in states)

    def _draw(self, data: st.DataObject, *states: State) -> Key:
        return data.draw(st.sampled_from(self._in(*states)))

    # --- workers -------------------------------------------------------------------------------

    @initialize(target=session_ids)
    def first_sessions(self) -> MultipleResults[int]:
        return multiple(*[self.open(queues) for queues in (QUEUES, QUEUES[:1])])

    @rule(target=session_ids, queues=st.sampled_from([QUEUES, QUEUES[:1], QUEUES[1:]]))
    def open(self, queues: tuple[str, ...]) -> int:
        session_id = self.real.open(queues)
        self.model.open(session_id, queues)
        return session_id

    @rule(session_id=session_ids, up=st.integers(0, 2), last=st.none() | LEASES)
    def reopen(self, session_id: int, up: int, last: Lease | None) -> None:
        session = self.model.sessions[session_id]
        epoch, last_fence = session.epoch + up, last.fence if last else self.model.highest_fence
        released = self.real.reopen(session_id, epoch, last_fence, session.queues)
        assert released == self.model.reopen(session_id, epoch, last_fence)
        self.met["reopen not live" if released is None else "reopen"] += 1
        self.met["release undelivered"] += len(released or ())

    @precondition(lambda self: self._in(State.READY))
    @rule(
        data=st.data(),
        reserved=st.none() | st.integers(1, 5),
        hands=st.lists(session_ids, min_size=1, max_size=6),
    )
    def lease(self, data: st.DataObject, reserved: int | None, hands: list[int]) -> None:
        queue = self._draw(data, State.READY).queue
        lanes = sorted(range(1, 6), key=lambda priority: (priority != reserved, priority))
        rows = self.real.lease(queue, lanes, hands)
        taken = [Lease(Key(queue, row.job_id), row.fence) for row in rows]
        self.model.lease(queue, lanes, len(hands), taken)
        assert [row.session_id for row in rows] == hands[: len(rows)]
        for row, lease in sorted(zip(rows, taken, strict=True), key=lambda pair: pair[1].fence):
            self.model.grant(lease, row.session_id)
            self.history.leased(lease)
            self._check_leased(row, self.model.jobs[lease.key])
        self.granted += taken
        self.met["lease"] += len(rows)

    def _check_leased(self, row: LeasedRow, job: Job) -> None:
        assert row.payload == job.body.payload.encode()
        told = (row.attempt, row.crashes, row.deliveries)
        assert told == (job.attempt, job.crashes, job.deliveries)
        assert row.checkpoint == (str(job.checkpoint[1]).encode() if job.checkpoint else None)

    @rule(
        data=st.data(),
        any_session=session_ids,
        holds=st.booleans(),
        epoch_off=st.sampled_from([0, 0, 0, 1, -1]),
        claims=st.lists(st.tuples(LEASES, FENCE_OFF, st.none() | st.integers(0, 100)), max_size=3),
        forgets=st.booleans(),
        last=st.none() | LEASES,
    )
    def heartbeat(
        self,
        data: st.DataObject,
        any_session: int,
        holds: bool,
        epoch_off: int,
        claims: list[tuple[Lease, int, int | None]],
        forgets: bool,
        last: Lease | None,
    ) -> None:
        session_id = self._session(data, any_session, holds)
        # The contract refuses a lease that is named twice.
        named: dict[Lease, int | None] = {}
        if not forgets:
            mine = [(k, j) for k, j in self.model.jobs.items() if j.session == session_id]
            named |= {Lease(key, job.fence): None for key, job in mine}
        named |= {beside(lease, off): percent for lease, off, percent in claims}
        held = [Held(lease, percent) for lease, percent in named.items()]
        last_fence = last.fence if last else self.model.highest_fence
        epoch = self.model.sessions[session_id].epoch + epoch_off
        heard = self.real.heartbeat(session_id, epoch, held, last_fence)
        assert heard == self.model.heartbeat(session_id, epoch, held, last_fence)
        self.met["heartbeat not live" if heard is None else "heartbeat"] += 1
        if heard is not None:
            self.met["heartbeat told lost"] += len(heard.lost)
            self.met["heartbeat told cancel"] += len(heard.cancel)
            self.met["reconcile"] += len(heard.reconciled)

    @rule(told=st.lists(st.tuples(LEASES, FENCE_OFF, KINDS), min_size=1, max_size=3))
    def report(self, told: list[tuple[Lease, int, OutcomeKind]]) -> None:
        batch = {beside(lease, off): kind for lease, off, kind in told}
        outcomes = [Told(lease, kind) for lease, kind in batch.items()]
        answers = self.real.report(outcomes)
        assert answers == self.model.report(outcomes)
        for outcome, answer in zip(outcomes, answers, strict=True):
            self.met[f"{outcome.kind.name.lower()} {answer.status}"] += 1
            self.history.reported(outcome, answer)

    @precondition(lambda self: self._in(State.LEASED))
    @rule(data=st.data(), kind=KINDS)
    def report_what_stands(self, data: st.DataObject, kind: OutcomeKind) -> None:
        key = self._draw(data, State.LEASED)
        self.report([(Lease(key, self.model.jobs[key].fence), 0, kind)])

    # --- the scheduler -------------------------------------------------------------------------

    @initialize(target=terms)
    def first_leader(self) -> MultipleResults[Term]:
        return self.change_leader("server-1", over=False, silence=None)

    @rule(
        target=terms,
        holder=st.sampled_from(["server-1", "server-2"]),
        over=st.booleans(),
        silence=st.sampled_from([None, None, "late", "outage"]),
    )
    def change_leader(self, holder: str, over: bool, silence: str | None) -> MultipleResults[Term]:
        if over:
            self.real.leader_is_over()
            self.model.leader_is_over()
        if silence:
            self.real.nobody_ticks(silence)
            self.model.nobody_ticks(silence)
        term = self.real.take_leadership(holder)
        assert term == self.model.take_leadership(holder)
        return multiple(Term(term, holder)) if term else multiple()

    @rule(term=terms, resigns=st.booleans())
    def renew_or_resign(self, term: Term, resigns: bool) -> None:
        if not resigns:
            assert self.real.renew_leadership(term) == self.model.renew_leadership(*term)
            return
        self.real.resign_leadership(term)
        if self.model.leads(*term):
            self.model.leader_is_over()

    @rule(
        data=st.data(),
        old=st.none() | st.none() | terms,
        queue=st.sampled_from(QUEUES),
        batches=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    )
    def tick(self, data: st.DataObject, old: Term | None, queue: str, batches: list[int]) -> None:
        at = self.model.leader
        assert at is not None
        term = old or Term(at.term, at.holder)
        leads = self.model.leads(*term)
        for batch in batches:
            verb = data.draw(st.sampled_from(self._due() or TICKS))
            moved = getattr(self, f"_{verb}")(term, leads, queue, batch)
            assert leads or not moved, "I8: a statement of an old term changed rows"
            # A wait drawn of hardly any time was over before the next verb of the same step, once in CI.
            self._hold_time()
            self.met[f"{verb} moved" if leads else f"{verb} refused"] += moved if leads else 1

    def _due(self) -> list[str]:
        jobs, sessions = self.model.jobs.values(), self.model.sessions
        due = {
            "lose_sessions": any(s.silent and not s.lost for s in sessions.values()),
            "expire": any(j.session is not None and sessions[j.session].lost for j in jobs),
            "fail_overdue": any(j.past_deadline for j in jobs),
            "tick": bool(self.model.leader and self.model.leader.ticked != "recent"),
            "promote": any(j.state is State.SCHEDULED and j.turn for j in jobs),
        }
        return [verb for verb in TICKS if due.get(verb)]

    def _lose_sessions(self, term: Term, leads: bool, queue: str, batch: int) -> int:
        lost = self.real.lose_sessions(term, batch)
        assert not leads or lost == sorted(self.model.lose_sessions(batch))
        return len(lost)

    def _expire(self, term: Term, leads: bool, queue: str, batch: int) -> int:
        expired = self.real.expire(term, batch)
        if leads:
            states = self.model.expire(batch, [lease for lease, _ in expired])
            assert [state for _, state in expired] == states
        return len(expired)

    def _fail_overdue(self, term: Term, leads: bool, queue: str, batch: int) -> int:
        failed = self.real.fail_overdue(term, batch)
        assert not leads or sorted(failed) == sorted(self.model.fail_overdue(batch))
        return len(failed)

    def _promote(self, term: Term, leads: bool, queue: str, batch: int) -> int:
        promoted = self.real.promote(term, queue, batch)
        assert not leads or promoted == self.model.promote(queue, batch)
        return promoted

    def _fold_depths(self, term: Term, leads: bool, queue: str, batch: int) -> int:
        return self.real.fold_depths(term)

    def _tick(self, term: Term, leads: bool, queue: str, batch: int) -> int:
        ticked = self.real.tick(term)
        assert not leads or ticked == self.model.tick()
        return ticked

    # --- time ----------------------------------------------------------------------------------

    @precondition(lambda self: self._in(State.SCHEDULED))
    @rule(data=st.data())
    def comes_due(self, data: st.DataObject) -> None:
        key = self._draw(data, State.SCHEDULED)
        self.real.comes_due(key, self.model.comes_due(key))

    @precondition(lambda self: self._with_deadline())
    @rule(data=st.data())
    def passes_deadline(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self._with_deadline()))
        self.real.passes_deadline(key, self.model.passes_deadline(key))

    def _with_deadline(self) -> list[Key]:
        return [key for key in self._in(State.LEASED) if self.model.jobs[key].body.deadline]

    @rule(data=st.data(), any_session=session_ids, holds=st.booleans())
    def falls_silent(self, data: st.DataObject, any_session: int, holds: bool) -> None:
        at = self._session(data, any_session, holds)
        self.real.falls_silent(at, self.model.falls_silent(at))

    # --- after each step -----------------------------------------------------------------------

    def _hold_time(self) -> None:
        for key, wait_ms in self.real.hold_time().items():
            assert wait_ms <= self.model.jobs[key].wait_ms_max, f"{key} waits {wait_ms} ms"

    @invariant()
    def the_same(self) -> None:
        self._hold_time()
        rows = self.real.state()
        differs = difference(rows_of(self.model), rows)
        assert not differs, f"the model and the database differ:\n{differs}"
        self.history.check(rows, self.model)


def run(
    real: Real,
    seeds: int,
    *,
    name: str = "Machine",
    derandomize: bool = True,
    phases: Sequence[Phase] = (Phase.generate, Phase.shrink),
) -> Counter[str]:
    """Runs so many examples; returns what they met. Derandomized examples depend on the name."""
    machine = type(name, (Machine,), {"real": real, "met": Counter()})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=seeds,
            stateful_step_count=STEPS,
            backend="uniform",
            derandomize=derandomize,
            phases=phases,
            deadline=None,
            database=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return machine.met
