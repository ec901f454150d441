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


def test_a_program_without_opentelemetry_imports_none_of_it() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)


@pytest.mark.parametrize("sampled", ["on", "off"])
def test_only_a_sampled_span_goes_with_the_job(sampled: str) -> None:
    """How it showed: a job with nearly 8 KiB of headers was refused when its trace was sampled."""
    subprocess.run([sys.executable, "-c", SAMPLED, sampled], check=True)


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
