"""What the SDK does with OpenTelemetry, and without it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from atlasqueue.tracing import asks_for_traces

WITHOUT = """
import sys
import atlasqueue
from atlasqueue.jobs import NewJob, new_job_to_proto
from atlasqueue.tracing import producing
job = new_job_to_proto(NewJob("media", "resize"), "an id")
with producing([job]) as metadata:
    assert metadata is None and not job.headers
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
SAMPLED = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from atlasqueue.jobs import NewJob, new_job_to_proto
from atlasqueue.tracing import producing
sampled = sys.argv[1] == "on"
trace.set_tracer_provider(TracerProvider(ALWAYS_ON if sampled else ALWAYS_OFF))
job = new_job_to_proto(NewJob("media", "resize"), "an id")
own = new_job_to_proto(NewJob("media", "resize", headers={"traceparent": "mine"}), "another")
full = [
    new_job_to_proto(NewJob("media", "resize", headers=headers), "an id")
    for headers in ({"k": "v" * 8191}, {f"k{i}": "v" for i in range(32)})
]
with producing([job, own, *full]) as metadata:
    told = dict(metadata)["traceparent"]
assert bool(int(told[-2:], 16) & 1) == sampled, told
assert job.headers.get("traceparent") == (told if sampled else None)
assert own.headers["traceparent"] == "mine"
assert not any("traceparent" in job.headers for job in full)
"""
TOGETHER = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from atlasqueue import Client, NewJob
from atlasqueue.v1 import job_service_pb2
sampled = sys.argv[1] == "on"
spans = InMemorySpanExporter()
provider = TracerProvider(ALWAYS_ON if sampled else ALWAYS_OFF)
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
told = []

def call(_method, request, metadata):
    told.append((request, dict(metadata)["traceparent"]))
    response = job_service_pb2.EnqueueBatchResponse()
    response.results.extend(job_service_pb2.EnqueueResult() for _ in request.jobs)
    response.uniform.extend(job_service_pb2.UniformResult() for _ in request.uniform)
    return response

own = {"traceparent": "mine"}
with Client("127.0.0.1:1") as client:
    client._calls.call = call
    client.enqueue_many([
        *(NewJob("media", "resize", b"%d" % n) for n in range(40)),
        *(NewJob("media", "resize", b"%d" % n, headers=own) for n in range(40)),
        NewJob("media", "crop"),
    ])
    client.enqueue_many([NewJob("media", "resize")] * 40)
    client.enqueue_many([NewJob("media", "crop")])
((request, parent), (second, other), (third, _)) = told
wanted = {"traceparent": parent} if sampled else {}
assert [dict(each.shared.headers) for each in request.uniform] == [wanted, own]
assert [dict(job.headers) for job in request.jobs] == [wanted]
assert dict(second.uniform[0].shared.headers) == ({"traceparent": other} if sampled else {})
assert parent != other
if sampled:
    many, some, one = spans.get_finished_spans()
    assert {span.name for span in (many, some, one)} == {"enqueue media"}
    assert many.attributes["messaging.batch.message_count"] == 81
    assert some.attributes["messaging.batch.message_count"] == 40
    assert not {"messaging.message.id", "atlasqueue.kind"} & some.attributes.keys()
    assert one.attributes["messaging.message.id"] == third.jobs[0].job_id
    assert "messaging.batch.message_count" not in one.attributes
"""


def test_a_program_without_opentelemetry_imports_none_of_it() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)


@pytest.mark.parametrize("sampled", ["on", "off"])
def test_only_a_sampled_span_goes_with_the_job(sampled: str) -> None:
    """How it showed: a job with nearly 8 KiB of headers was refused when its trace was sampled."""
    subprocess.run([sys.executable, "-c", SAMPLED, sampled], check=True)


@pytest.mark.parametrize("sampled", ["on", "off"])
def test_jobs_that_go_together_share_one_span_and_its_header(sampled: str) -> None:
    subprocess.run([sys.executable, "-c", TOGETHER, sampled], check=True)


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
    ],
)
def test_the_standard_variables_decide(environ: dict[str, str], asked: bool) -> None:
    assert asks_for_traces(environ) is asked
