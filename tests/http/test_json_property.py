"""Whatever JSON is sent, it is taken or refused as INVALID_FIELD with a field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from atlasqueue.v1 import job_service_pb2 as jobs_pb
from atlasqueue.v1 import queue_service_pb2 as queues_pb
from atlasqueue.v1 import worker_service_pb2 as workers_pb
from atlasqueue_server.http import json_input
from atlasqueue_server.model.errors import InvalidField

REQUESTS: list[type[Message]] = [
    jobs_pb.EnqueueRequest,
    jobs_pb.EnqueueBatchRequest,
    jobs_pb.CancelJobsRequest,
    queues_pb.UpdateQueuePolicyRequest,
    queues_pb.RedriveDeadLettersRequest,
    workers_pb.ReportRequest,
]


def names(descriptor: Descriptor, seen: set[str]) -> set[str]:
    """All field names below `descriptor`, so that random trees get past the first level."""
    for field in descriptor.fields:
        if field.camelcase_name not in seen:
            seen |= {field.name, field.camelcase_name}
            if field.message_type is not None:
                names(field.message_type, seen)
    return seen


NAMES = sorted(set().union(*(names(kind.DESCRIPTOR, set()) for kind in REQUESTS)))  # type: ignore[arg-type]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["1s", "1970-01-01T00:00:00Z", "aGk=", "JOB_STATE_DEAD", "\ud800", "1e999"])
)
KEYS = st.sampled_from(NAMES) | st.text(max_size=5) | st.just("\ud800")
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


# Other tests walk the same code; to follow it here takes a third of the time.
@pytest.mark.no_cover
@settings(max_examples=1000, deadline=None)
@given(kind=st.sampled_from(REQUESTS), tree=TREES)
def test_any_json_is_taken_or_refused_with_a_field(kind: type[Message], tree: Any) -> None:
    loaded = json_input.load(json.dumps(tree).encode())
    message = kind()
    try:
        json_input.merge(loaded, message)
    except InvalidField as error:
        assert all(violation.field and violation.bound for violation in error.violations)
        # A refusal that only the library explains would name no field.
        assert "is refused" not in str(error)
    else:
        assert kind.FromString(message.SerializeToString()) == message
