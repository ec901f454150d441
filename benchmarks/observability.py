"""What metrics, logs and tracing cost: CPU of server and worker in the work phase, in interleaved rounds.

    python -m benchmarks.observability --rounds 5                     as it is, beside tracing at 1 %
    git worktree add /tmp/before REVISION
    python -m benchmarks.observability --before /tmp/before           beside another revision as well

Tracing at 1 %: one job in a hundred carries a sampled traceparent, server and worker sample 1 % of what has
no parent, and export to a receiver in this process, each second, so that nearly all exports fall within the run.

A round has the base at both ends (A/A): what the two differ by is noise, and the ratio is to their mean. Where a
shared machine is now fast and now slow, it is so for PostgreSQL as well, which does the same in all variants: the
second ratio is that of costs in units of PostgreSQL's CPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psycopg
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from benchmarks.harness.console import say
from benchmarks.harness.document import Sample
from benchmarks.harness.interleave import rounds
from benchmarks.harness.postgres import open_postgres
from benchmarks.own.context import Context, Metrics, Sizes
from benchmarks.own.rows import preload

BASE = "as it is"
TRACED = "tracing 1 %"

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


def work(context: Context, variables: Mapping[str, str], traced: bool) -> dict[str, Metrics]:
    """The work phase once."""
    with environment(variables), context.server() as live:
        preload(live.url, context.sizes.jobs)
        with psycopg.connect(live.url, autocommit=True) as connection:
            sampled = connection.execute(SAMPLED).rowcount if traced else 0
            connection.execute("vacuum analyze")
        metrics = live.measure("worker", live.worker(jobs=context.sizes.jobs))
    cpu = metrics["server_cpu_us_per_job"] + metrics["worker_cpu_us_per_job"]
    to_postgres = cpu / metrics["postgres_cpu_us_per_job"]
    return {"work": metrics | {"cpu": cpu, "to_postgres": to_postgres, "sampled": sampled}}


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--before", type=Path, help="work tree of another revision")
    options = parser.parse_args()
    receiver = Receiver()
    samples: list[Sample] = []
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
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
        }
        variants = {
            BASE: partial(work, context, {}, False),
            TRACED: partial(work, context, tracing, True),
        }
        if options.before:
            path = f"{options.before}:{options.before / 'clients' / 'python'}"
            before = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
            variants["before"] = partial(work, context, before, False)
        for sample in rounds(variants, options.rounds):
            samples.append(sample)
            metrics = sample.metrics
            say(
                f"round {sample.round + 1}  {sample.variant}: server {metrics['server_cpu_us_per_job']:.1f}"
                f" + worker {metrics['worker_cpu_us_per_job']:.1f} µs a job,"
                f" PostgreSQL {metrics['postgres_cpu_us_per_job']:.1f}"
            )
    _tell(samples, say)
    sampled = sum(each.metrics["sampled"] for each in samples)
    say(f"{receiver.spans} spans received while {sampled:.0f} jobs were sampled")


def _tell(samples: Sequence[Sample], tell: Callable[[str], None]) -> None:
    """Medians, and the ratios within the rounds."""
    for metric in ("cpu", "to_postgres"):
        first, again = (_by_round(samples, BASE, metric, second) for second in (False, True))
        base = {number: (first[number] + again[number]) / 2 for number in first}
        _tell_ratios(f"{metric}: {BASE}, again", again, first, tell)
        for name in dict.fromkeys(each.variant for each in samples):
            if name != BASE:
                costs = _by_round(samples, name, metric, False)
                _tell_ratios(f"{metric}: {name}", costs, base, tell)


def _by_round(
    samples: Sequence[Sample], variant: str, metric: str, again: bool
) -> dict[int, float]:
    return {
        each.round: each.metrics[metric]
        for each in samples
        if (each.variant, each.again) == (variant, again)
    }


def _tell_ratios(
    name: str, costs: Mapping[int, float], base: Mapping[int, float], tell: Callable[[str], None]
) -> None:
    ratios = [cost / base[number] - 1 for number, cost in costs.items()]
    tell(
        f"{name}: median {statistics.median(costs.values()):.2f}, min {min(costs.values()):.2f};"
        f" base {statistics.median(base.values()):.2f}; within rounds: median"
        f" {statistics.median(ratios):+.1%}, mean {statistics.mean(ratios):+.1%},"
        f" from {min(ratios):+.1%} to {max(ratios):+.1%}"
    )


if __name__ == "__main__":
    main()
