"""Reports outcomes in batches, until they are answered.

What gathers while a call is out goes with the next one; only when that is a large batch already does
another call go out beside it, so that a busy worker never waits for a commit. A job is held until its report
is answered, so a lost answer is repeated and found ALREADY_APPLIED.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import structlog

from atlasqueue.channel import Tls, open_aio_channel
from atlasqueue.errors import (
    AtlasQueueError,
    DatabaseUnavailable,
    DeadlineExceeded,
    InvalidField,
    MessageTooLarge,
    Overloaded,
    Unavailable,
    from_rpc_error,
)
from atlasqueue.retry import Backoff
from atlasqueue.v1 import job_pb2, worker_service_pb2, worker_service_pb2_grpc
from atlasqueue_worker.held import Held
from atlasqueue_worker.job import JobContext
from atlasqueue_worker.outcomes import ERROR_MESSAGE_BYTES_MAX, cut_text
from atlasqueue_worker.session import Session

OUTCOMES_MAX = 1000
CALLS_MAX = 3
# A quarter of the slots, within these bounds, is worth a call of its own beside those that are out: fewer would cost
# more calls than they gain, and with more than that the slots of a small worker wait for one call.
BESIDE_MIN = 64
BESIDE_MAX = 250
BYTES_MAX = 3 * 1024 * 1024
# What an outcome takes beside what is told of it: queue, id and fence.
NAMED_BYTES_MAX = 256
CALL_TIMEOUT_S = 10.0
REFUSED = "OutcomeRefused"

JobOutcome = worker_service_pb2.JobOutcome
# A job, and what is told of it, as in a Report.
Ending = tuple[JobContext, JobOutcome | None]
# Jobs that have completed without a result, by queue.
Columns = dict[str, list[JobContext]]
COMPLETE = worker_service_pb2.Complete()

log = structlog.get_logger("atlasqueue.worker")


class Reporter:
    """Sends outcomes.

    `on_answer` gets each job with its outcome and the result for it, once; `on_completed` instead those that the
    server has completed and has no more to say of.
    """

    def __init__(
        self,
        servers: Sequence[str],
        tls: Tls | None,
        session: Session,
        held: Held,
        on_answer: Callable[[JobContext, JobOutcome | None, worker_service_pb2.ReportResult], None],
        on_completed: Callable[[Sequence[JobContext]], None],
        slots: int = 1,
    ) -> None:
        self._servers = list(servers)
        self._tls = tls
        self._session = session
        self._held = held
        self._on_answer = on_answer
        self._on_completed = on_completed
        self._beside_min = max(BESIDE_MIN, min(BESIDE_MAX, slots // 4))
        self._current = 0
        self._channel: grpc.aio.Channel | None = None
        # The generated stub's types do not tell a blocking channel from an asyncio one.
        self._call: Any = None
        self._closing: set[asyncio.Task[None]] = set()
        self._pending: deque[Ending] = deque()
        self._calls_out = 0
        self._changed = asyncio.Event()

    def report(self, job: JobContext, outcome: JobOutcome | None) -> None:
        """Hands in an outcome."""
        self._pending.append((job, outcome))
        self._changed.set()

    async def run(self) -> None:
        """Sends for as long as the worker lives."""
        senders = [asyncio.create_task(self._send_on()) for _ in range(CALLS_MAX)]
        try:
            await asyncio.gather(*senders)
        finally:
            for sender in senders:
                sender.cancel()
            if self._channel is not None:
                await self._channel.close()

    async def flush(self) -> None:
        """Returns when everything handed in was answered."""
        while self._pending or self._calls_out:
            await self._change()

    async def _send_on(self) -> None:
        while True:
            while len(self._pending) < (self._beside_min if self._calls_out else 1):
                await self._change()
            self._calls_out += 1
            try:
                await self._send(self._take())
            finally:
                self._calls_out -= 1
                self._changed.set()

    async def _change(self) -> None:
        """Returns when outcomes came or a call was answered; each who waits looks again for itself."""
        await self._changed.wait()
        self._changed.clear()

    def _take(self) -> list[Ending]:
        taken: list[Ending] = []
        size = 0
        while self._pending and len(taken) < OUTCOMES_MAX:
            outcome = self._pending[0][1]
            size += NAMED_BYTES_MAX + (0 if outcome is None else outcome.ByteSize())
            if taken and size > BYTES_MAX:
                break
            taken.append(self._pending.popleft())
        return taken

    async def _send(self, endings: Sequence[Ending]) -> None:
        """Sends these until they are answered."""
        await self._send_sorted(*_sorted(endings))

    async def _send_sorted(self, alone: Sequence[Ending], columns: Columns) -> None:
        """Jobs one by one, and in columns by queue those that have completed without a result."""
        endings = [*alone, *((job, None) for jobs in columns.values() for job in jobs)]
        backoff = Backoff(first=0.05, longest=2.0)
        while True:
            request = _request(self._session.named()[0], alone, columns)
            channel = self._connected()
            call = self._call
            try:
                response = await call(request, timeout=CALL_TIMEOUT_S)
                break
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            if columns and isinstance(failure, InvalidField):
                # One of them may be refused, or the server be older than columns: one by one it says which.
                await self._send_sorted(endings, {})
                return
            if not isinstance(failure, Unavailable | DeadlineExceeded):
                await self._refused(endings, failure)
                return
            log.warning("report_waits", outcomes=len(endings), error=str(failure))
            if len(self._servers) > 1 or not isinstance(failure, DatabaseUnavailable | Overloaded):
                self._leave(channel)
            await asyncio.sleep(backoff.next_delay())
        if len(response.completed) < len(columns):
            # The server is older than columns, and has passed them over.
            self._answered(alone, {}, response)
            await self._send_sorted(endings[len(alone) :], {})
        else:
            self._answered(alone, columns, response)

    def _answered(
        self,
        alone: Sequence[Ending],
        columns: Columns,
        response: worker_service_pb2.ReportResponse,
    ) -> None:
        self._held.remove([job.fence for job, _ in alone])
        for (job, outcome), result in zip(alone, response.results, strict=True):
            self._on_answer(job, outcome, result)
        for jobs, of_queue in zip(columns.values(), response.completed, strict=False):
            self._held.remove([job.fence for job in jobs])
            others = {result.fence: result for result in of_queue.others}
            for job in jobs if others else ():
                if job.fence in others:
                    self._on_answer(job, None, others[job.fence])
            self._on_completed([job for job in jobs if job.fence not in others] if others else jobs)

    async def _refused(self, endings: Sequence[Ending], failure: AtlasQueueError) -> None:
        """One bad outcome takes no other with it: halves are sent again, and a single one as a failure."""
        log.error("report_refused", outcomes=len(endings), error=str(failure))
        if not isinstance(failure, InvalidField | MessageTooLarge):
            # A bug of the server: what is not held any more is given back by the next heartbeat.
            self._held.remove([job.fence for job, _ in endings])
            return
        if len(endings) > 1:
            middle = len(endings) // 2
            await self._send_sorted(endings[:middle], {})
            await self._send_sorted(endings[middle:], {})
            return
        ((job, outcome),) = endings
        if outcome is None or outcome.fail.error.type != REFUSED:
            error = job_pb2.JobError(
                type=REFUSED, message=cut_text(str(failure), ERROR_MESSAGE_BYTES_MAX)
            )
            refused = JobOutcome(fail=worker_service_pb2.Fail(error=error))
            await self._send([(job, refused)])
            return
        self._held.remove([job.fence])

    def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = open_aio_channel(self._servers[self._current], self._tls)
            self._call = worker_service_pb2_grpc.WorkerServiceStub(self._channel).Report
        return self._channel

    def _leave(self, channel: grpc.aio.Channel) -> None:
        """Another server, and a new connection in any case: the one before may be dead without a word.

        Of several calls that failed on one connection, the first leaves it; the others follow.
        """
        if self._channel is not channel:
            return
        self._channel = None
        self._current = (self._current + 1) % len(self._servers)
        # The calls that are still out on it may be answered: they get the time that any call has.
        closing = asyncio.create_task(channel.close(grace=CALL_TIMEOUT_S))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def _sorted(endings: Sequence[Ending]) -> tuple[list[Ending], Columns]:
    """What goes one by one, and what goes in columns: the jobs that came in some, and returned nothing."""
    alone: list[Ending] = []
    columns: Columns = {}
    for ending in endings:
        job, outcome = ending
        if outcome is not None or job.id_bytes is None:
            alone.append(ending)
        elif (of_queue := columns.get(job.queue)) is not None:
            of_queue.append(job)
        else:
            columns[job.queue] = [job]
    return alone, columns


def _request(
    session_id: int, alone: Sequence[Ending], columns: Columns
) -> worker_service_pb2.ReportRequest:
    request = worker_service_pb2.ReportRequest(session_id=session_id)
    add = request.outcomes.add
    for job, outcome in alone:
        if outcome is None:
            add(queue=job.queue, job_id=job.job_id, fence=job.fence, complete=COMPLETE)
        else:
            add(queue=job.queue, job_id=job.job_id, fence=job.fence).MergeFrom(outcome)
    for queue, jobs in columns.items():
        ids = b"".join([job.id_bytes or b"" for job in jobs])
        request.completed.add(queue=queue, job_ids=ids, fences=[job.fence for job in jobs])
    return request
