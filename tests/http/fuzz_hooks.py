"""For schemathesis: half of the generated ids and queues are replaced by some that exist.

Otherwise hardly a request would get past NOT_FOUND. A watch is only sent for jobs that have settled or do
not exist, for it would wait for the others.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from typing import Any

import schemathesis

KNOWN = json.loads(os.environ["ATLASQUEUE_FUZZ_KNOWN"])
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
CALLS = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Puts what exists into the path."""
    turn = next(CALLS)
    path = case.path_parameters
    is_watch = context.operation.path.endswith(":watch")
    if ID.fullmatch(str(path.get("jobId", ""))) and (is_watch or turn % 2):
        ids = KNOWN["settled" if is_watch else "jobs"]
        path["jobId"] = ids[turn // 2 % len(ids)]
    if NAME.fullmatch(str(path.get("queue", ""))) and turn % 2:
        path["queue"] = KNOWN["queue"]
