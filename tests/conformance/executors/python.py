"""The executor of the Python SDK: `python -m tests.conformance.executors.python --servers HOST:PORT`.

Reads calls and writes answers and events as JSON lines; docs/protocol.md names them. Nothing but the public
SDK does the work. Logs go to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import is_dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

import structlog

from atlasqueue import AsyncClient, Job, JobState, NewJob, QueuePolicy, RetryPolicy
from atlasqueue.errors import (
    AtlasQueueError,
    DeadlineExceeded,
    EnqueueManyError,
    InvalidField,
    JobCancelled,
    JobDied,
    MessageTooLarge,
    Unavailable,
)
from atlasqueue.jobs import DeadLetterReason
from atlasqueue_worker import (
    App,
    Cancel,
    JobContext,
    LeaseState,
    Reject,
    Release,
    Retry,
    Snooze,
    Worker,
)

LINE_BYTES_MAX = 32 << 20
# Errors of the client's own making: the contract has no reason for them.
OWN_REASONS: dict[type[AtlasQueueError], str] = {
    JobDied: "JOB_DIED",
    JobCancelled: "JOB_CANCELLED",
    DeadlineExceeded: "DEADLINE_EXCEEDED",
    MessageTooLarge: "MESSAGE_TOO_LARGE",
    EnqueueManyError: "ENQUEUE_BATCH",
    Unavailable: "UNAVAILABLE",
}


class HandlerError(Exception):
    """What a handler fails with."""


class Executor:
    """Calls by name: a method `call_NAME` each."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._clients = {"": AsyncClient(servers)}
        self._workers: dict[str, tuple[Worker, asyncio.Task[None]]] = {}
        self._gates: dict[str, threading.Event] = {}
        self._writing = threading.Lock()
        self._calls: set[asyncio.Task[None]] = set()

    # --- lines ---

    async def run(self) -> None:
        """Until the input ends."""
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            call = asyncio.create_task(self._answer(json.loads(line)))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        for gate in self._gates.values():
            gate.set()
        for worker in list(self._workers):
            await self.call_stop_worker(worker)
        for client in self._clients.values():
            await client.close()

    def write(self, message: dict[str, Any]) -> None:
        """One line; from any thread."""
        line = json.dumps(message)
        with self._writing:
            print(line, flush=True)

    async def _answer(self, message: dict[str, Any]) -> None:
        number, name = message.pop("id"), message.pop("call")
        try:
            answer = await getattr(self, f"call_{name}")(**message)
        except AtlasQueueError as error:
            self.write({"id": number, "error": self.error(error)})
        except Exception as error:
            # Not the SDK's: the executor was misused, or has a mistake.
            told = {"reason": "EXECUTOR", "message": repr(error)}
            self.write({"id": number, "error": told})
        else:
            self.write({"id": number, "answer": answer})

    def error(self, error: AtlasQueueError) -> dict[str, Any]:
        """The reason is told by the class: that is what callers catch."""
        own = next((r for kind, r in OWN_REASONS.items() if type(error) is kind), "")
        told: dict[str, Any] = {"reason": error.reason or own, "message": str(error)}
        if isinstance(error, InvalidField):
            told["violations"] = [{"field": v.field, "bound": v.bound} for v in error.violations]
        if isinstance(error, JobDied | JobCancelled):
            told["job"] = plain(error.job)
        if isinstance(error, EnqueueManyError):
            told["errors"] = {str(n): self.error(e) for n, e in error.errors.items()}
            told["job_ids"] = error.job_ids
        return told

    # --- producers ---

    async def call_hello(self) -> dict[str, Any]:
        return {"sdk": "python"}

    async def call_connect(
        self, client: str, servers: list[str], retry_for_s: float = 30.0
    ) -> dict[str, Any]:
        here = [server or self._servers for server in servers]
        self._clients[client] = AsyncClient(here, retry_for=retry_for_s)
        return {}

    async def call_enqueue(self, job: dict[str, Any], client: str = "") -> dict[str, Any]:
        new = self.new_job(job)
        fields = {name: getattr(new, name) for name in new.__slots__}
        return {"job_id": await self._clients[client].enqueue(**fields)}

    async def call_enqueue_batch(
        self, jobs: list[dict[str, Any]], client: str = ""
    ) -> dict[str, Any]:
        return {"job_ids": await self._clients[client].enqueue_many(map(self.new_job, jobs))}

    def new_job(self, job: dict[str, Any]) -> NewJob:
        """A job to enqueue, from its JSON."""
        return NewJob(
            job["queue"],
            job["kind"],
            self.bytes(job.get("payload", "")),
            job.get("job_id"),
            job.get("headers"),
            job.get("priority"),
            _time(job.get("run_at")),
            _span(job.get("deadline_s")),
            _retry_policy(job.get("retry_policy")),
        )

    def bytes(self, text: str) -> bytes:
        """Bytes from a line."""
        return base64.b64decode(text)

    async def call_get(self, job_id: str, queue: str = "", client: str = "") -> dict[str, Any]:
        return {"job": plain(await self._clients[client].get(job_id, queue=queue))}

    async def call_list(self, queue: str, state: str = "", kind: str = "") -> dict[str, Any]:
        wanted = JobState[state or "UNSPECIFIED"]
        return await _jobs(self._clients[""].list(queue, state=wanted, kind=kind))

    async def call_cancel(self, job_id: str, queue: str = "") -> dict[str, Any]:
        return {"state": (await self._clients[""].cancel(job_id, queue=queue)).name}

    async def call_cancel_many(
        self, queue: str, state: str = "", kind: str = "", dry_run: bool = False
    ) -> dict[str, Any]:
        wanted = JobState[state or "UNSPECIFIED"]
        done = await self._clients[""].cancel_many(queue, state=wanted, kind=kind, dry_run=dry_run)
        return {"cancelled": sorted(done.cancelled), "requested": sorted(done.requested)}

    async def call_wait(
        self, job_id: str, queue: str = "", timeout_s: float | None = None, client: str = ""
    ) -> dict[str, Any]:
        job = await self._clients[client].wait(job_id, queue=queue, timeout=timeout_s)
        return {"job": plain(job)}

    async def call_watch(self, job_id: str) -> dict[str, Any]:
        states = [job.state.name async for job in self._clients[""].watch(job_id)]
        return {"states": states}

    # --- operators ---

    async def call_queues(self) -> dict[str, Any]:
        return {"queues": [queue.name async for queue in self._clients[""].queues.list()]}

    async def call_queue(self, queue: str) -> dict[str, Any]:
        return {"queue": plain(await self._clients[""].queues.get(queue))}

    async def call_update_policy(
        self, queue: str, policy: dict[str, Any], fields: list[str] | None = None
    ) -> dict[str, Any]:
        given = QueuePolicy(
            _retry_policy(policy.get("retry_policy")) or RetryPolicy(),
            _span(policy.get("visibility_timeout_s")),
        )
        return {
            "queue": plain(
                await self._clients[""].queues.update_policy(queue, given, fields=fields)
            )
        }

    async def call_pause(self, queue: str) -> dict[str, Any]:
        return {"queue": plain(await self._clients[""].queues.pause(queue))}

    async def call_resume(self, queue: str) -> dict[str, Any]:
        return {"queue": plain(await self._clients[""].queues.resume(queue))}

    async def call_depth(self, queue: str) -> dict[str, Any]:
        return {"depth": plain(await self._clients[""].queues.depth(queue))}

    async def call_dead_letters(
        self, queue: str, kind: str = "", reason: str = ""
    ) -> dict[str, Any]:
        wanted = DeadLetterReason[reason or "UNSPECIFIED"]
        return await _jobs(self._clients[""].dead_letters.list(queue, kind=kind, reason=wanted))

    async def call_redrive(self, queue: str, **chosen: Any) -> dict[str, Any]:
        return {"count": await self._clients[""].dead_letters.redrive(queue, **_chosen(chosen))}

    async def call_purge(self, queue: str, **chosen: Any) -> dict[str, Any]:
        return {"count": await self._clients[""].dead_letters.purge(queue, **_chosen(chosen))}

    async def call_workers(self) -> dict[str, Any]:
        return {"workers": [plain(session) for session in await self._clients[""].workers()]}

    async def call_cluster(self) -> dict[str, Any]:
        return {"cluster": plain(await self._clients[""].cluster())}

    # --- workers ---

    async def call_start_worker(
        self,
        worker: str,
        name: str,
        queues: list[str],
        slots: int,
        grace_s: float,
        kinds: dict[str, list[list[dict[str, Any]]]],
        servers: list[str] | None = None,
    ) -> dict[str, Any]:
        app = App()
        for kind, runs in kinds.items():
            app.job(kind)(self._handler(worker, runs))
        here = [server or self._servers for server in servers or [""]]
        started = Worker(app, here, slots=slots, queues=queues, name=name, grace=grace_s)
        self._workers[worker] = started, asyncio.create_task(self._run_worker(worker, started))
        return {}

    async def _run_worker(self, worker: str, started: Worker) -> None:
        error = None
        try:
            await started.run()
        except AtlasQueueError as failure:
            error = self.error(failure)
        self.write({"event": "ended", "worker": worker, "error": error})

    async def call_stop_worker(self, worker: str) -> dict[str, Any]:
        started, running = self._workers.pop(worker)
        started.stop()
        await running
        return {}

    async def call_open(self, gate: str) -> dict[str, Any]:
        self.gate(gate).set()
        return {}

    def gate(self, name: str) -> threading.Event:
        """A gate, closed at first."""
        return self._gates.setdefault(name, threading.Event())

    def _handler(self, worker: str, runs: list[list[dict[str, Any]]]) -> Any:
        # A plain function: it runs in a thread, and nothing stops it but its own will.
        def handler(job: JobContext) -> bytes:
            self.write({"event": "run", "worker": worker} | seen(job))
            for action in runs[min(job.deliveries, len(runs)) - 1]:
                [(name, value)] = action.items()
                done = self.act(job, worker, name, value)
                if done is not None:
                    return done
            return b""

        return handler

    def act(self, job: JobContext, worker: str, name: str, value: Any) -> bytes | None:
        """Does what a handler is told; the result when it is over."""
        match name:
            case "progress":
                job.set_progress(value["percent"], value.get("note", ""))
            case "checkpoint":
                job.save_checkpoint(self.bytes(value))
            case "wait":
                self.gate(value).wait()
            case "wait_stop":
                job.wait_cancelled()
                cause = "drain" if job.draining else "cancel"
                if job.lease_state is LeaseState.LOST:
                    cause = "lost"
                told = {"job_id": job.job_id, "fence": job.fence, "cause": cause}
                self.write({"event": "stopped", "worker": worker} | told)
            case "complete":
                return self.bytes(value)
            case "echo":
                return job.payload
            case _:
                self.end(job, name, value)
        return None

    def end(self, job: JobContext, name: str, value: Any) -> None:
        """Ends a handler otherwise than with a result."""
        match name:
            case "fail":
                raise HandlerError(value["message"])
            case "retry":
                raise Retry(value["message"], after=value["after_s"])
            case "reject":
                raise Reject(value["message"])
            case "snooze":
                raise Snooze(value["delay_s"])
            case "release":
                raise Release()
            case "cancel":
                raise Cancel()
            case "stop":
                job.raise_if_cancelled()
            case _:
                raise ValueError(f"no action {name}")


def seen(job: JobContext) -> dict[str, Any]:
    """What a handler sees of its job."""
    return {
        "queue": job.queue,
        "job_id": job.job_id,
        "kind": job.kind,
        "payload": base64.b64encode(job.payload).decode(),
        "headers": job.headers,
        "priority": job.priority,
        "fence": job.fence,
        "attempt": job.attempt,
        "crashes": job.crashes,
        "deliveries": job.deliveries,
        "max_attempts": job.max_attempts,
        "checkpoint": base64.b64encode(job.checkpoint or b"").decode(),
        "time_left_s": job.time_left,
    }


def plain(value: Any) -> Any:
    """The SDK's dataclasses as JSON has them."""
    if is_dataclass(value) and not isinstance(value, type):
        told = {name: plain(inner) for name, inner in _fields(value).items()}
        if isinstance(value, Job):
            told["progress"] = (
                None if value.percent is None else {"percent": value.percent, "note": value.note}
            )
        return told
    match value:
        case IntEnum():
            return value.name
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            return value.timestamp()
        case timedelta():
            return value.total_seconds()
        case dict():
            return {key: plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
    return value


def _fields(value: Any) -> dict[str, Any]:
    spans = {"deadline", "visibility_timeout", "initial_backoff", "max_backoff", "time_left"}
    return {
        f"{name}_s" if name in spans else name: getattr(value, name)
        for name in value.__dataclass_fields__
    }


async def _jobs(found: AsyncIterator[Job]) -> dict[str, Any]:
    return {"jobs": [plain(job) async for job in found]}


def _chosen(chosen: dict[str, Any]) -> dict[str, Any]:
    if "reason" in chosen:
        chosen["reason"] = DeadLetterReason[chosen["reason"]]
    return chosen


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _retry_policy(policy: dict[str, Any] | None) -> RetryPolicy | None:
    if policy is None:
        return None
    return RetryPolicy(
        policy.get("max_attempts"),
        _span(policy.get("initial_backoff_s")),
        policy.get("multiplier"),
        _span(policy.get("max_backoff_s")),
    )


def servers_given(arguments: list[str] | None = None) -> str:
    """The servers of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", required=True, help="host:port, several with commas")
    return str(parser.parse_args(arguments).servers)


def main(executor: type[Executor] = Executor, arguments: list[str] | None = None) -> None:
    """Runs it."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    servers = servers_given(arguments)

    async def run() -> None:
        await executor(servers).run()

    asyncio.run(run())


if __name__ == "__main__":
    main()
