"""One process with a thousand sessions: raw gRPC, because a thousand worker processes would be the load itself.

    python -m tests.chaos.herd ADDRESSES --sessions 1000 --slots 50 --name herd_1 [--hold]

Each session is a worker in small: a stream that is opened again on the next server when it ends (same
session, higher epoch), heartbeats with the held list, reports. With --hold it completes nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import grpc
import typer

from atlasqueue.errors import SessionLost, from_rpc_error
from atlasqueue.v1 import worker_service_pb2 as wire
from atlasqueue.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.chaos.names import DIRECTORY_VARIABLE, QUEUE
from tests.history.clerk import answer_of, state_of
from tests.history.events import Delivered, Reported, body_hash, value_hash
from tests.history.recorder import Recorder

SESSIONS_A_CHANNEL = 100
RETRY_S = 0.3
CALL_S = 10.0


class Member:
    """One session."""

    def __init__(self, herd: Herd, number: int) -> None:
        self.herd = herd
        self.number = number
        self.turn = 0
        self.session_id = 0
        self.epoch = 0
        self.last_fence = 0
        # Of the heartbeat before: leases below the newest may still be on their way, as SDKs know.
        self.told_fence = 0
        self.interval_s = 1.0
        self.held: dict[int, wire.LeasedJob] = {}

    @property
    def stub(self) -> WorkerServiceStub:
        """Of the server that it is at now."""
        return self.herd.stub(self.number, self.turn)

    async def stream(self) -> None:
        """Opens its stream again and again."""
        while True:
            try:
                await self._stream_once()
            except grpc.RpcError as error:
                self.herd.failed("stream", error)
                if isinstance(from_rpc_error(error), SessionLost):
                    self.session_id, self.epoch, self.last_fence, self.told_fence = 0, 0, 0, 0
                    self.held.clear()
            self.turn += 1
            await asyncio.sleep(RETRY_S)

    async def _stream_once(self) -> None:
        self.epoch += 1
        request = wire.LeaseRequest(queues=[QUEUE], slots=self.herd.slots, worker=self.herd.name)
        if self.session_id:
            request.session_id = self.session_id
            request.epoch, request.last_fence = self.epoch, self.last_fence
        call = self.stub.Lease(request)
        try:
            async for event in call:
                self._handle(event)
        finally:
            call.cancel()

    def _handle(self, event: wire.LeaseResponse) -> None:
        if event.HasField("session_opened"):
            opened = event.session_opened
            self.session_id, self.epoch = opened.session_id, opened.epoch
            self.interval_s = opened.heartbeat_interval.ToTimedelta().total_seconds()
            self.herd.opened(self)
        for job in event.leased_jobs.jobs:
            self.held[job.fence] = job
            self.last_fence = max(self.last_fence, job.fence)
            self.herd.delivered(job)
        if self.held and not self.herd.hold:
            self.herd.to_report.set()

    async def beat(self) -> None:
        """Heartbeats, spread over the interval."""
        await asyncio.sleep(self.interval_s * (self.number % 97) / 97)
        while True:
            await asyncio.sleep(self.interval_s)
            if not self.session_id:
                continue
            held = [
                wire.HeldJob(queue=j.queue, job_id=j.job_id, fence=j.fence)
                for j in self.held.values()
            ]
            request = wire.HeartbeatRequest(
                session_id=self.session_id,
                epoch=self.epoch,
                held=held,
                last_fence=self.told_fence,
            )
            self.told_fence = self.last_fence
            try:
                response = await self.stub.Heartbeat(request, timeout=CALL_S)
            except grpc.RpcError as error:
                self.herd.failed("heartbeat", error)
                continue
            for lease in response.lost:
                self.held.pop(lease.fence, None)


class Herd:
    """All sessions of the process."""

    def __init__(
        self, addresses: list[str], name: str, sessions: int, slots: int, *, hold: bool
    ) -> None:
        self.name = name
        self.slots = slots
        self.hold = hold
        self.to_report = asyncio.Event()
        self._addresses = addresses
        self._recorder = Recorder(Path(os.environ[DIRECTORY_VARIABLE]), name)
        self._channels: dict[tuple[str, int], WorkerServiceStub] = {}
        self._opened: set[int] = set()
        self._failures: Counter[tuple[str, str]] = Counter()
        self.members = [Member(self, number) for number in range(sessions)]

    def stub(self, number: int, turn: int) -> WorkerServiceStub:
        """A stub on a channel that a hundred sessions share."""
        address = self._addresses[turn % len(self._addresses)]
        key = address, number // SESSIONS_A_CHANNEL
        if key not in self._channels:
            options = [
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ]
            self._channels[key] = WorkerServiceStub(
                grpc.aio.insecure_channel(address, options=options)
            )
        return self._channels[key]

    def opened(self, member: Member) -> None:
        """Says when all sessions are there."""
        self._opened.add(member.number)
        if len(self._opened) == len(self.members):
            (Path(os.environ[DIRECTORY_VARIABLE]) / f"{self.name}.opened").touch()

    def failed(self, call: str, error: grpc.RpcError) -> None:
        """Counts what went wrong, for the log."""
        self._failures[call, type(from_rpc_error(error)).__name__] += 1

    async def tell(self) -> None:
        """Logs each five seconds what failed since."""
        while True:
            await asyncio.sleep(5)
            held = sum(len(member.held) for member in self.members)
            print(f"{held} held, failed: {dict(self._failures)}", flush=True)
            self._failures.clear()

    def delivered(self, job: wire.LeasedJob) -> None:
        """Writes a delivery down."""
        self._recorder.record(
            Delivered,
            queue=job.queue,
            job_id=job.job_id,
            fence=job.fence,
            attempt=job.attempt,
            crashes=job.crashes,
            deliveries=job.deliveries,
            body=body_hash(job.kind, job.payload, job.priority),
        )

    async def report(self) -> None:
        """Completes whatever is held, session by session."""
        while True:
            await self.to_report.wait()
            self.to_report.clear()
            for member in self.members:
                if member.held:
                    await self._report_for(member)

    async def _report_for(self, member: Member) -> None:
        request = wire.ReportRequest(session_id=member.session_id)
        for job in member.held.values():
            outcome = request.outcomes.add(queue=job.queue, job_id=job.job_id, fence=job.fence)
            outcome.complete.result = f"{job.job_id}:{job.fence}".encode()
        try:
            response = await member.stub.Report(request, timeout=CALL_S)
        except grpc.RpcError as error:
            self.failed("report", error)
            await asyncio.sleep(RETRY_S)
            self.to_report.set()
            return
        for outcome, result in zip(request.outcomes, response.results, strict=True):
            member.held.pop(outcome.fence, None)
            self._recorder.record(
                Reported,
                queue=outcome.queue,
                job_id=outcome.job_id,
                fence=outcome.fence,
                outcome="complete",
                answer=answer_of(result),
                state=state_of(result),
                result=value_hash(outcome.complete.result),
            )

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.tell())
            for member in self.members:
                group.create_task(member.stream())
                group.create_task(member.beat())
            if not self.hold:
                group.create_task(self.report())


def main(
    addresses: str,
    sessions: Annotated[int, typer.Option()] = 1000,
    slots: Annotated[int, typer.Option()] = 50,
    name: Annotated[str, typer.Option()] = "herd",
    hold: Annotated[bool, typer.Option("--hold")] = False,
) -> None:
    """Run a herd of sessions until killed."""

    async def work() -> None:
        await Herd(addresses.split(","), name, sessions, slots, hold=hold).run()

    import uvloop

    uvloop.run(work())


if __name__ == "__main__":
    typer.run(main)
