"""report: the outcomes of leases, each judged under its fence; calls that wait together share a commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from atlasqueue_server.domain.batching import Batcher
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.model.errors import Overloaded
from atlasqueue_server.model.jobs import Outcome, OutcomeKind, Reported, ReportStatus
from atlasqueue_server.model.states import State
from atlasqueue_server.store import report as store
from atlasqueue_server.store.database import Database

# A round settles every outcome but those whose lease a cancel request changed meanwhile.
ROUNDS_MAX = 5

Lease = tuple[str, str, int]


def lease_of(outcome: Outcome) -> Lease:
    """(queue, id, fence): what an outcome speaks of."""
    return outcome.queue, outcome.job_id, outcome.fence


class Reporter:
    """Stores outcomes and answers each after the commit."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        observe: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._database = database
        self._signals = signals
        self._batcher: Batcher[Outcome, Reported] = Batcher(
            self._flush, size=lambda o: len(o.result or b"") + 200, observe=observe
        )

    async def report(self, outcomes: Sequence[Outcome]) -> list[Reported]:
        """What became of each outcome. A repeat of one that was stored is ALREADY_APPLIED."""
        return await self._batcher.submit(outcomes)

    async def close(self) -> None:
        """Waits for the calls that were let in."""
        await self._batcher.close()

    async def _flush(self, outcomes: Sequence[Outcome]) -> list[Reported]:
        answers: dict[int, Reported] = {}
        todo = list(range(len(outcomes)))
        for _ in range(ROUNDS_MAX):
            # One lease twice is settled one after the other: the first decides.
            chosen, todo = _distinct(outcomes, todo)
            settled = await self._store([outcomes[i] for i in chosen])
            for i in chosen:
                found = settled.get(lease_of(outcomes[i]))
                if found is None:
                    todo.append(i)
                else:
                    answers[i] = found
            if not todo:
                return [answers[i] for i in range(len(outcomes))]
        raise Overloaded("the leases are being changed by others; repeat with backoff")

    async def _store(self, outcomes: Sequence[Outcome]) -> dict[Lease, Reported]:
        groups: dict[tuple[str, OutcomeKind], list[Outcome]] = defaultdict(list)
        for outcome in sorted(outcomes, key=lambda o: o.job_id):
            groups[outcome.queue, outcome.kind].append(outcome)
        moved = await store.report_if_fenced(self._database, groups)
        self._tell(moved)
        settled = {lease: Reported(ReportStatus.APPLIED, state) for lease, state in moved.items()}
        if len(moved) < len(outcomes):
            settled |= await self._classify([o for o in outcomes if lease_of(o) not in moved])
        return settled

    async def _classify(self, outcomes: Sequence[Outcome]) -> dict[Lease, Reported]:
        by_queue: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            by_queue[outcome.queue].append(outcome)
        return {
            (queue, job_id, fence): Reported(ReportStatus(answer))
            for queue, of_queue in by_queue.items()
            for (job_id, fence), answer in (
                await store.classify_reports(self._database, queue, of_queue)
            ).items()
            if answer != "retry"
        }

    def _tell(self, moved: dict[Lease, State]) -> None:
        self._signals.jobs_ready(
            {queue for (queue, _, _), state in moved.items() if state is State.READY}
        )
        if self._signals.moved:
            for _, job_id, _ in moved:
                self._signals.job_moved(job_id)


def _distinct(outcomes: Sequence[Outcome], indices: Sequence[int]) -> tuple[list[int], list[int]]:
    chosen: dict[Lease, int] = {}
    rest: list[int] = []
    for i in indices:
        if chosen.setdefault(lease_of(outcomes[i]), i) != i:
            rest.append(i)
    return list(chosen.values()), rest
