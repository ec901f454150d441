"""A program that uses OpenTelemetry and enqueues within a span of its own: ADDRESS QUEUE."""

from __future__ import annotations

import sys
from datetime import timedelta

from opentelemetry import trace

from atlasqueue import Client, NewJob, RetryPolicy
from atlasqueue.tracing import provider_from_environment


def main() -> None:
    provider = provider_from_environment("shop")
    assert provider is not None
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("shop")
    address, queue = sys.argv[1:]
    soon = RetryPolicy(initial_backoff=timedelta(milliseconds=10))
    with Client(address) as client:
        with tracer.start_as_current_span("checkout"):
            job_id = client.enqueue(queue, "resize", b"s3cret", retry_policy=soon)
        with tracer.start_as_current_span("bulk"):
            client.enqueue_many([NewJob(queue, "plain", b"s3cret") for _ in range(3)])
        with tracer.start_as_current_span("unaware"):
            client.enqueue(queue, "unaware")
        client.wait(job_id, timeout=60)
    provider.shutdown()
    print(job_id)


main()
