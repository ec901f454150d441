"""From enqueue to the start of the handler, at a steady rate."""

from __future__ import annotations

import time

from benchmarks.harness.interleave import Measure
from benchmarks.own.context import Context, Metrics, latencies

IDLE_RATE = 20.0


def at_rate(context: Context, rate: float) -> Metrics:
    """Percentiles at `rate` jobs a second, from a producer in a process of its own."""
    jobs = max(20, round(rate * context.sizes.latency_s))
    with (
        context.server() as live,
        live.worker(jobs=jobs, latency=True) as worker,
        live.producer("paced", jobs=jobs, rate=rate) as producer,
    ):
        worker.ready()
        producer.ready()
        worker.go()
        # The stream must be open: a job before that would measure the opening.
        time.sleep(1.0)
        meter = live.meter(worker=worker, producer=producer)
        meter.start()
        producer.go()
        result = worker.result()
        return meter.stop(jobs) | latencies(result)


def idle(context: Context) -> dict[str, Measure]:
    """Twenty jobs a second."""
    return {f"{IDLE_RATE:.0f} jobs/s": lambda: {"latency": at_rate(context, IDLE_RATE)}}


def half_load(context: Context) -> dict[str, Measure]:
    """Half of what enqueue and work at once can do, which `lifecycle` has found in this run."""

    def measure() -> dict[str, Metrics]:
        if "lifecycle" not in context.found:
            from benchmarks.own.throughput import steady

            context.found["lifecycle"] = steady(context, context.sizes.seconds)[0]["jobs_per_s"]
        return {"half_load": at_rate(context, context.found["lifecycle"] / 2)}

    return {"half load": measure}
