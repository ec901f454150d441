"""report: the outcomes of leases, each judged under its fence; calls that wait together share a commit."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final, cast

from atlasqueue_server.domain.batching import Batcher
from atlasqueue_server.domain.signals import Signals
from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.model.columns import CompletedJobs
from atlasqueue_server.model.errors import Overloaded
from atlasqueue_server.model.jobs import Outcome, OutcomeKind, Reported, ReportStatus
from atlasqueue_server.model.states import State
from atlasqueue_server.store import report as store
from atlasqueue_server.store.database import Database

# A round settles every outcome but those whose lease a cancel request changed meanwhile.
ROUNDS_MAX = 5

APPLIED: Final = {state: Reported(ReportStatus.APPLIED, state) for state in State}
COMPLETED: Final = APPLIED[State.SUCCEEDED]
_JOB_ID: Final = attrgetter("job_id")

Groups = Mapping[tuple[str, OutcomeKind], Sequence[Outcome]]


class Reporter:
    """Stores outcomes and answers each after the commit."""

    def __init__(
        self,
        database: Database,
        signals: Signals,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal or Journal()
        self._database = database
        self._signals = signals
        self._batcher: Batcher[Outcome, Reported] = Batcher(
            self._flush,
            size=lambda o: len(o.result or b"") + 200,
            observe=self._journal.committed_reports,
            verb="report",
        )

    async def report(self, *told: Sequence[Outcome]) -> Sequence[Sequence[Reported]]:
        """What became of each outcome of a call, list by list. A repeat of one that was stored is ALREADY_APPLIED.

        Completes without a result come by the thousand: as CompletedJobs they stay columns.
        """
        self._journal.called_report(sum(map(len, told)))
        if len(told) == 1:
            return [await self._submit(told[0])]
        return await asyncio.gather(*map(self._submit, told))

    async def _submit(self, told: Sequence[Outcome]) -> Sequence[Reported]:
        if isinstance(told, CompletedJobs):
            return await self._batcher.submit_columns(told)
        return await self._batcher.submit(told)

    async def close(self) -> None:
        """Waits for the calls that were let in."""
        await self._batcher.close()

    async def _flush(self, outcomes: Sequence[Outcome]) -> list[Reported]:
        if isinstance(outcomes, CompletedJobs):
            if len(set(outcomes.fences)) == len(outcomes):
                return await self._complete(outcomes)
            outcomes = list(outcomes)
        answers: list[Reported | None] = [None] * len(outcomes)
        for indices in by_distinct_fences(outcomes):
            settled = await self._settle([outcomes[i] for i in indices])
            for i in indices:
                answers[i] = settled[outcomes[i].fence]
        return cast(list[Reported], answers)

    async def _complete(self, jobs: CompletedJobs) -> list[Reported]:
        moved = await store.complete_jobs_if_fenced(self._database, jobs)
        self._journal.completed(jobs, moved)
        if self._signals.moved:
            self._tell_moved(jobs, set(moved))
        if len(moved) == len(jobs):
            return [COMPLETED] * len(jobs)
        settled = dict.fromkeys(moved, COMPLETED)
        settled |= await self._settle([o for o in jobs if o.fence not in settled])
        return [settled[fence] for fence in jobs.fences]

    async def _settle(self, outcomes: Sequence[Outcome]) -> dict[int, Reported]:
        """The answer for each of these fences, which are distinct."""
        settled = await self._store(outcomes)
        for _ in range(ROUNDS_MAX):
            if len(settled) == len(outcomes):
                return settled
            settled |= await self._store([o for o in outcomes if o.fence not in settled])
        raise Overloaded("the leases are being changed by others; repeat with backoff")

    async def _store(self, outcomes: Sequence[Outcome]) -> dict[int, Reported]:
        groups: dict[tuple[str, OutcomeKind], list[Outcome]] = defaultdict(list)
        for outcome in sorted(outcomes, key=_JOB_ID):
            groups[outcome.queue, outcome.kind].append(outcome)
        moved = await store.report_if_fenced(self._database, groups)
        self._tell(groups, moved)
        self._journal.reported(groups, moved)
        settled = {fence: APPLIED[state] for fence, state in moved.items()}
        if len(moved) < len(outcomes):
            others = [o for o in outcomes if o.fence not in moved]
            settled |= (classified := await self._classify(others))
            self._journal.not_applied(others, classified)
        return settled

    async def _classify(self, outcomes: Sequence[Outcome]) -> dict[int, Reported]:
        by_queue: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            by_queue[outcome.queue].append(outcome)
        return {
            fence: Reported(ReportStatus(answer))
            for queue, of_queue in by_queue.items()
            for fence, answer in (
                await store.classify_reports(self._database, queue, of_queue)
            ).items()
            if answer != "retry"
        }

    def _tell(self, groups: Groups, moved: Mapping[int, State]) -> None:
        self._signals.jobs_ready(
            {
                queue
                for (queue, verb), outcomes in groups.items()
                if verb is not OutcomeKind.COMPLETE
                and any(moved.get(o.fence) is State.READY for o in outcomes)
            }
        )
        if self._signals.moved:
            self._tell_moved(chain.from_iterable(groups.values()), moved)

    def _tell_moved(self, outcomes: Iterable[Outcome], moved: Container[int]) -> None:
        for outcome in outcomes:
            if outcome.fence in moved:
                self._signals.job_moved(outcome.job_id)


def by_distinct_fences(outcomes: Sequence[Outcome]) -> Iterator[Sequence[int]]:
    """Indices in rounds: one lease twice is settled one after the other, and the first decides."""
    left: Sequence[int] = range(len(outcomes))
    while len({outcomes[i].fence for i in left}) < len(left):
        first: dict[int, int] = {}
        for i in left:
            first.setdefault(outcomes[i].fence, i)
        yield list(first.values())
        chosen = set(first.values())
        left = [i for i in left if i not in chosen]
    if left:
        yield left
