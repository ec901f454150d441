"""A program that uses OpenTelemetry and enqueues within a span of its own: ADDRESS."""

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
    soon = RetryPolicy(initial_backoff=timedelta(milliseconds=10))
    with Client(sys.argv[1]) as client:
        with tracer.start_as_current_span("checkout"):
            job_id = client.enqueue("media", "resize", b"s3cret", retry_policy=soon)
        with tracer.start_as_current_span("bulk"):
            client.enqueue_many([NewJob("media", "plain", b"s3cret") for _ in range(3)])
        client.wait(job_id, timeout=60)
    provider.shutdown()
    print(job_id)


main()
