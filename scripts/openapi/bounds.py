"""Bounds of the contract that a JSON Schema can say, from the numbers that the server checks.

Keyed by the name that a field has in every request, or by its full name. The comments say the rest.
"""

from __future__ import annotations

import copy
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from atlasqueue_server.model import limits

_NAME = {"pattern": f"^{limits.NAME_PATTERN}$"}
_OPTIONAL_NAME = {"pattern": f"^({limits.NAME_PATTERN})?$"}
_ID = {"format": "uuid"}
# Up to 11 days; no span of the contract is longer than 7.
_SPAN = {"pattern": r"^[0-9]{1,6}(\.[0-9]{1,9})?s$"}
_REQUEST: dict[str, dict[str, Any]] = {
    "queue": _NAME,
    "kind": _NAME,
    "job_id": _ID,
    "job_ids": {"items": _ID, "maxItems": limits.BATCH_ITEMS_MAX},
    "page_size": {"minimum": 0, "maximum": limits.PAGE_SIZE_MAX},
    "page_token": {"maxLength": limits.PAGE_TOKEN_CHARS_MAX},
    "max_jobs": {"minimum": 0, "maximum": limits.BATCH_ITEMS_MAX},
}
_ANYWHERE: dict[str, dict[str, Any]] = {
    "atlasqueue.v1.NewJob.priority": {
        "minimum": limits.PRIORITY_MIN,
        "maximum": limits.PRIORITY_MAX,
    },
    "atlasqueue.v1.NewJob.headers": {
        "maxProperties": limits.HEADERS_MAX,
        "propertyNames": {"minLength": 1, "maxLength": limits.HEADER_KEY_CHARS_MAX},
    },
    "atlasqueue.v1.NewJob.deadline": _SPAN,
    "atlasqueue.v1.QueuePolicy.visibility_timeout": _SPAN,
    "atlasqueue.v1.RetryPolicy.initial_backoff": _SPAN,
    "atlasqueue.v1.RetryPolicy.max_backoff": _SPAN,
    "atlasqueue.v1.RetryPolicy.max_attempts": {
        "minimum": limits.MAX_ATTEMPTS_MIN,
        "maximum": limits.MAX_ATTEMPTS_MAX,
    },
    "atlasqueue.v1.RetryPolicy.multiplier": {
        "minimum": limits.BACKOFF_MULTIPLIER_MIN,
        "maximum": limits.BACKOFF_MULTIPLIER_MAX,
    },
    "atlasqueue.v1.EnqueueBatchRequest.jobs": {"maxItems": limits.BATCH_ITEMS_MAX},
    "atlasqueue.v1.EnqueueBatchRequest.uniform": {"maxItems": limits.BATCH_ITEMS_MAX},
    # In base64.
    "atlasqueue.v1.UniformJobs.job_ids": {"minLength": 24},
    "atlasqueue.v1.UniformJobs.payloads": {"minItems": 1, "maxItems": limits.BATCH_ITEMS_MAX},
    "atlasqueue.v1.Job.job_id": _ID,
}


def bounds_of(field: FieldDescriptor, *, is_request: bool, is_required: bool) -> dict[str, Any]:
    """What the schema of `field` says beside its type."""
    bounds = _ANYWHERE.get(field.full_name, {})
    if is_request and not bounds:
        bounds = _REQUEST.get(field.name, {})
    if bounds is _NAME and not is_required:
        # An empty name is none.
        bounds = _OPTIONAL_NAME
    return copy.deepcopy(bounds)
