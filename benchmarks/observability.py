"""What metrics, logs and tracing cost: CPU of server and worker in the work phase, in interleaved rounds.

    python -m benchmarks.observability --rounds 5                     as it is, beside tracing at 1 %
    git worktree add /tmp/before REVISION
    python -m benchmarks.observability --before /tmp/before           beside another revision as well

Tracing at 1 %: one job in a hundred carries a sampled traceparent, server and worker sample 1 % of what has
no parent, and export to a receiver in this process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from benchmarks.harness.console import say
from benchmarks.harness.postgres import open_postgres
from benchmarks.own.context import Context, Metrics, Sizes
from benchmarks.own.rows import preload

# One job in a hundred, by the last two bytes of its id.
SAMPLED = """
update atlasqueue.jobs set headers = jsonb_build_object('traceparent',
    '00-' || replace(job_id::text, '-', '') || '-00f067aa0ba902b7-01')
where get_byte(uuid_send(job_id), 15) * 256 + get_byte(uuid_send(job_id), 14) < 655
"""


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Counts spans."""

    spans = 0

    def Export(self, request: Any, _context: Any) -> Any:
        """Takes spans."""
        scopes = [scope for each in request.resource_spans for scope in each.scope_spans]
        self.spans += sum(len(scope.spans) for scope in scopes)
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def receiving(receiver: Receiver) -> Iterator[str]:
    """The address of an OTLP receiver."""
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(None)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables for the processes that are started meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def work(context: Context, traced: bool) -> Metrics:
    """The work phase once."""
    with context.server() as live:
        preload(live.url, context.sizes.jobs)
        with psycopg.connect(live.url, autocommit=True) as connection:
            if traced:
                connection.execute(SAMPLED)
            connection.execute("vacuum analyze")
        return live.measure("worker", live.worker(jobs=context.sizes.jobs))


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--before", type=Path, help="work tree of another revision")
    options = parser.parse_args()
    receiver = Receiver()
    found: dict[str, list[float]] = {}
    with (
        open_postgres(None) as postgres,
        tempfile.TemporaryDirectory() as directory,
        receiving(receiver) as endpoint,
    ):
        context = Context(postgres, Path(directory), Sizes(jobs=options.jobs))
        tracing = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.01",
        }
        variants: dict[str, tuple[dict[str, str], bool]] = {
            "as it is": ({}, False),
            "tracing 1 %": (tracing, True),
        }
        if options.before:
            path = f"{options.before}:{options.before / 'clients' / 'python'}"
            variants["before"] = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}, False
        for number in range(options.rounds):
            names = list(variants)
            for name in names if number % 2 else reversed(names):
                variables, traced = variants[name]
                with environment(variables):
                    metrics = work(context, traced)
                cpu = metrics["server_cpu_us_per_job"], metrics["worker_cpu_us_per_job"]
                found.setdefault(name, []).append(sum(cpu))
                say(
                    f"round {number + 1}  {name}: server {cpu[0]:.1f} + worker {cpu[1]:.1f} µs a job"
                )
    _tell(found, say)
    say(f"{receiver.spans} spans received")


def _tell(found: Mapping[str, list[float]], tell: Callable[[str], None]) -> None:
    for name, costs in found.items():
        tell(f"{name}: median {statistics.median(costs):.2f}, min {min(costs):.2f} µs a job")


if __name__ == "__main__":
    main()
