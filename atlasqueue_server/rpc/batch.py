"""EnqueueBatch: thousands of jobs, each judged and answered on its own.

jobs     judged together, or one by one when there is something to refuse ─┬─▶ Enqueuer.enqueue
uniform  few, one of them refused, or several of a line: taken apart ──────┘
         many, and sound: as they are ───────────────────────────────────────▶ Enqueuer.enqueue_uniform
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from atlasqueue.v1 import job_pb2, job_service_pb2
from atlasqueue_server.domain.enqueue import UNIFORM_MIN, Enqueuer
from atlasqueue_server.model import limits
from atlasqueue_server.model.columns import UniformJobs
from atlasqueue_server.model.errors import AtlasQueueError, InvalidField, TooManyQueues
from atlasqueue_server.model.jobs import NewJob
from atlasqueue_server.rpc import convert_in
from atlasqueue_server.rpc.errors import shortened, to_status
from atlasqueue_server.rpc.validate import Checker

# A batch of 10 000 refusals must fit into a message: the first ones are told in full, the others in short.
REFUSALS_BYTES = 1 * limits.MIB
# Others are served in between: 20 KiB of 10 000 refused jobs take a second.
JUDGED_AT_ONCE = 250
NAME_CHARS_SHOWN = 64
ID_CHARS_SHOWN = 36

Judged = NewJob | InvalidField
# As they are, taken apart, or refused as a whole.
JudgedUniform = UniformJobs | list[Judged] | InvalidField
# Where jobs wait behind each other: queue and priority.
Line = tuple[str, int]
# By position in the request.
Errors = Mapping[int, AtlasQueueError | None]


async def enqueue(
    enqueuer: Enqueuer, request: job_service_pb2.EnqueueBatchRequest
) -> job_service_pb2.EnqueueBatchResponse:
    """Stores what can be stored, and says of the rest why not. Raises InvalidField: too few jobs or too many."""
    _count(request)
    jobs = await judged_jobs(request.jobs)
    uniform = await _judged_uniform(request.uniform, {_line(job) for job in _sound(jobs)})
    few = [each for each in (jobs, *uniform) if isinstance(each, list)]
    many = [each for each in uniform if isinstance(each, UniformJobs)]
    # Lists tell no order between each other, but ids do: first in, first out.
    store_few = _store_by_id if len(few) > 1 else _store
    of_few, of_many = await asyncio.gather(
        store_few(enqueuer, [job for some in few for job in _sound(some)]),
        asyncio.gather(*(_store_uniform(enqueuer, each) for each in many)),
    )
    stored, stored_uniform = iter(of_few), iter(of_many)
    response, refusals = job_service_pb2.EnqueueBatchResponse(), _Refusals()
    for asked, job, error in zip(request.jobs, jobs, _errors(jobs, stored), strict=True):
        if isinstance(job, NewJob):
            result = response.results.add(queue=job.queue, job_id=job.job_id)
        else:
            queue, job_id = asked.queue[:NAME_CHARS_SHOWN], asked.job_id[:ID_CHARS_SHOWN]
            result = response.results.add(queue=queue, job_id=job_id)
        if error is not None:
            await refusals.tell(result, error)
    for each in uniform:
        found: AtlasQueueError | Errors
        if isinstance(each, UniformJobs):
            found = next(stored_uniform)
        elif isinstance(each, list):
            found = dict(enumerate(_errors(each, stored)))
        else:
            found = each
        await refusals.tell_uniform(response.uniform.add(), found)
    return response


def _count(request: job_service_pb2.EnqueueBatchRequest) -> None:
    check, most = Checker(), limits.BATCH_ITEMS_MAX
    check.count("uniform", len(request.uniform), 0, most)
    uniform = sum(len(each.payloads) for each in request.uniform)
    # An empty one is refused by itself.
    least = 0 if request.uniform else 1
    check.count("jobs and uniform" if uniform else "jobs", len(request.jobs) + uniform, least, most)


async def judged_jobs(jobs: Sequence[job_pb2.NewJob]) -> list[Judged]:
    """Each of these, or why it is refused."""
    judged: list[Judged] = []
    for start in range(0, len(jobs), JUDGED_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        some = jobs[start : start + JUDGED_AT_ONCE]
        judged += convert_in.sound_jobs(some) or [
            convert_in.sound_job(job) or judge(f"jobs[{i}].", job)
            for i, job in enumerate(some, start)
        ]
    return judged


def judge(at: str, job: job_pb2.NewJob) -> Judged:
    """A job to store, or why it is none; `at` is its path in the request."""
    check = Checker(at)
    new = convert_in.new_job(check, job)
    return InvalidField(check.violations) if check.violations else new


async def _judged_uniform(
    uniform: Sequence[job_service_pb2.UniformJobs], others: Collection[Line]
) -> list[JudgedUniform]:
    """Each of these, beside jobs that stand in the lines `others`. Who shares a line is taken apart, to keep its order."""
    judged: list[UniformJobs | InvalidField] = []
    for i, told in enumerate(uniform):
        if i:
            await asyncio.sleep(0)
        judged.append(convert_in.uniform_jobs(f"uniform[{i}].", told))
    lines = Counter(_line(jobs.shared) for jobs in judged if isinstance(jobs, UniformJobs))
    lines.update(others)
    return [
        await _whole_or_apart(f"uniform[{i}].", jobs, shares_line=lines[_line(jobs.shared)] > 1)
        if isinstance(jobs, UniformJobs)
        else jobs
        for i, jobs in enumerate(judged)
    ]


def _line(job: NewJob) -> Line:
    return job.queue, job.priority


def _sound(judged: Iterable[Judged]) -> Iterator[NewJob]:
    return (job for job in judged if isinstance(job, NewJob))


async def _whole_or_apart(
    at: str, jobs: UniformJobs, *, shares_line: bool
) -> UniformJobs | list[Judged]:
    unsound: dict[int, InvalidField] = {}
    for start in range(0, len(jobs), JUDGED_AT_ONCE):
        if unsound:
            await asyncio.sleep(0)
        some = jobs[start : start + JUDGED_AT_ONCE]
        unsound |= convert_in.unsound_of_uniform(at, some, start)
    if not unsound and not shares_line and len(jobs) >= UNIFORM_MIN:
        return jobs
    apart: list[Judged] = []
    for n in range(len(jobs)):
        if n and not n % JUDGED_AT_ONCE:
            await asyncio.sleep(0)
        apart.append(unsound.get(n) or jobs[n])
    return apart


async def _store(enqueuer: Enqueuer, jobs: Sequence[NewJob]) -> Sequence[AtlasQueueError | None]:
    return await enqueuer.enqueue(jobs) if jobs else ()


async def _store_by_id(
    enqueuer: Enqueuer, jobs: Sequence[NewJob]
) -> Sequence[AtlasQueueError | None]:
    order = sorted(range(len(jobs)), key=lambda at: jobs[at].job_id)
    answers = await _store(enqueuer, [jobs[at] for at in order])
    by_place = dict(zip(order, answers, strict=True))
    return [by_place[at] for at in range(len(jobs))]


async def _store_uniform(enqueuer: Enqueuer, jobs: UniformJobs) -> Errors | TooManyQueues:
    try:
        return await enqueuer.enqueue_uniform(jobs)
    except TooManyQueues as error:
        return error


def _errors(
    judged: Iterable[Judged], stored: Iterator[AtlasQueueError | None]
) -> list[AtlasQueueError | None]:
    return [next(stored) if isinstance(job, NewJob) else job for job in judged]


class _Refusals:
    """Those of one batch: the first ones are told in full, the others in short."""

    def __init__(self) -> None:
        self._bytes = 0
        self._count = 0

    async def tell(
        self,
        result: job_service_pb2.EnqueueResult
        | job_service_pb2.UniformResult
        | job_service_pb2.UniformRefusal,
        error: AtlasQueueError,
    ) -> None:
        """Writes an error into its result; lets others be served now and then."""
        status = to_status(error)
        status = status if self._bytes < REFUSALS_BYTES else shortened(status)
        self._bytes += status.ByteSize()
        result.error.CopyFrom(status)
        self._count += 1
        if not self._count % JUDGED_AT_ONCE:
            await asyncio.sleep(0)

    async def tell_uniform(
        self, result: job_service_pb2.UniformResult, found: AtlasQueueError | Errors
    ) -> None:
        """Writes why none of some uniform jobs is stored, or why single ones are not."""
        if isinstance(found, AtlasQueueError):
            await self.tell(result, found)
            return
        for index, error in found.items():
            if error is not None:
                await self.tell(result.refused.add(index=index), error)
