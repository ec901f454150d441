"""Enqueue and work: in bulk, one by one, and both at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psycopg

from benchmarks.harness.interleave import Measure
from benchmarks.harness.meter import cost
from benchmarks.harness.runner import Runner
from benchmarks.own.context import Context, Live, Metrics
from benchmarks.own.rows import CopyBatches, make_queue, preload

BULK_IN_FLIGHT = 4
COPY_CONNECTIONS = 2
SLOTS = (256, 1, 8, 64)
# Few slots work slowly; each run should take about as long as the others.
SLOT_JOBS = {1: 0.02, 8: 0.15, 64: 0.6}


def enqueue(context: Context) -> dict[str, Measure]:
    """enqueue_many through gRPC, beside COPY of the same rows into the same tables."""
    jobs = context.sizes.jobs

    def through_grpc() -> dict[str, Metrics]:
        with context.server() as live:
            runner = live.producer("bulk", jobs=jobs, in_flight=BULK_IN_FLIGHT)
            return {"enqueue": live.measure("producer", runner, jobs)}

    def by_copy() -> dict[str, Metrics]:
        with context.server() as live:
            make_queue(live.url)
            with psycopg.connect(live.url, autocommit=True) as connection:
                batches = CopyBatches(connection, jobs)
            meter = live.meter()
            meter.start()
            batches.write(live.url, COPY_CONNECTIONS)
            return {"enqueue": meter.stop(jobs)}

    return {"EnqueueBatch": through_grpc, "raw COPY": by_copy}


def unary(in_flight: int) -> Callable[[Context], dict[str, Measure]]:
    """One job a call, beside an empty RPC on the same server."""
    name = f"unary_{in_flight}"

    def measures(context: Context) -> dict[str, Measure]:
        jobs = context.sizes.unary_jobs // (4 if in_flight == 1 else 1)

        def calls(way: str) -> Measure:
            def measure() -> dict[str, Metrics]:
                with context.server() as live:
                    runner = live.producer(way, jobs=jobs, in_flight=in_flight)
                    metrics = live.measure("producer", runner, jobs)
                metrics["calls_per_s"] = metrics.pop("jobs_per_s")
                return {name: metrics}

            return measure

        return {"enqueue": calls("unary"), "empty RPC": calls("empty")}

    return measures


def work_once(context: Context, jobs: int, slots: int) -> Metrics:
    """Works `jobs` jobs that wait already, on a fresh database."""
    return work_with(context, jobs, lambda live: live.worker(jobs=jobs, slots=slots))


def work_with(context: Context, jobs: int, worker: Callable[[Live], Runner]) -> Metrics:
    """The same with any worker that ends after so many jobs."""
    with context.server() as live:
        preload(live.url, jobs)
        with psycopg.connect(live.url, autocommit=True) as connection:
            connection.execute("analyze")
        return live.measure("worker", worker(live))


def work(context: Context) -> dict[str, Measure]:
    """The work phase alone: jobs wait, handlers are trivial, every outcome is reported."""

    def measure() -> dict[str, Metrics]:
        return {"work": work_once(context, context.sizes.jobs, context.slots)}

    return {f"{context.slots} slots": measure}


def slots(context: Context) -> dict[str, Measure]:
    """The work phase with few and many slots."""

    def with_slots(count: int) -> Measure:
        jobs = max(100, int(context.sizes.jobs * SLOT_JOBS.get(count, 1.0)))
        return lambda: {"slots": work_once(context, jobs, count)}

    return {f"{count} slots": with_slots(count) for count in SLOTS}


Disturbance = Callable[[str], AbstractContextManager[Any]]


def lifecycle(context: Context) -> dict[str, Measure]:
    """Enqueue and work at once, as fast as it goes."""

    def measure() -> dict[str, Metrics]:
        metrics, _series = steady(context, context.sizes.seconds)
        context.found["lifecycle"] = metrics["jobs_per_s"]
        return {"lifecycle": metrics}

    return {"enqueue and work": measure}


def steady(
    context: Context, seconds: float, disturbance: Disturbance = lambda _url: nullcontext()
) -> tuple[Metrics, list[tuple[float, float]]]:
    """Producer and worker at full speed for a time; the backlog stays small.

    Returns metrics and the rate over time, as (seconds, jobs a second).
    """
    with context.server() as live, disturbance(live.url), _pair(live, seconds) as (work, produce):
        meter = live.meter(worker=work, producer=produce)
        meter.start()
        work.go()
        produce.go()
        result = work.result(timeout_s=seconds + 120)
        before, after = meter.before, meter.read()
        sent = produce.result(timeout_s=60)["sent"]
    # What was enqueued has cost half of a life, and what was handled the other half.
    metrics = cost(before, after, (sent + result["handled"]) // 2 or 1, result["seconds"])
    metrics["jobs_per_s"] = result["handled"] / result["seconds"]
    rates = rates_over_time(result["series"], max(0.5, seconds / 60))
    tenth = max(1, len(rates) // 10)
    # The first rate is that of connecting.
    metrics["rate_first_per_s"] = _mean(rates[1 : 1 + tenth] or rates)
    metrics["rate_last_per_s"] = _mean(rates[-tenth:])
    return metrics, rates


@contextmanager
def _pair(live: Live, seconds: float) -> Iterator[tuple[Any, Any]]:
    count = live.count_file()
    with (
        live.worker(seconds=seconds, count=count) as worker,
        live.producer("ahead", seconds=seconds, count=count, in_flight=BULK_IN_FLIGHT) as producer,
    ):
        worker.ready()
        producer.ready()
        yield worker, producer


def rates_over_time(series: list[list[float]], step_s: float) -> list[tuple[float, float]]:
    """(seconds, jobs a second) from counts over time, one point each `step_s` or so."""
    rates: list[tuple[float, float]] = []
    last_at, last_count = series[0]
    for at, count in series[1:]:
        if at - last_at >= step_s:
            rates.append((at, (count - last_count) / (at - last_at)))
            last_at, last_count = at, count
    return rates or [(series[-1][0], 0.0)]


def _mean(rates: list[tuple[float, float]]) -> float:
    return sum(rate for _, rate in rates) / len(rates)
