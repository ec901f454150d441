"""Every number of the contract, once: defaults and bounds, each with its unit last in its name.

Proto comments and docs quote these; `tests/model/test_limits_quoted.py` proves that they agree.
"""

from __future__ import annotations

import re
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
# No seq, fence, epoch or id of a session is above: int64 in the contract, bigint in PostgreSQL.
INT64_MAX: Final = 2**63 - 1

# names
NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
NAME_CHARS_MAX: Final = 128
NAME: Final = re.compile(NAME_PATTERN + r"\Z")
QUEUES_MAX: Final = 10_000

# bodies
PAYLOAD_BYTES_MAX: Final = 1 * MIB
RESULT_BYTES_MAX: Final = 256 * KIB
CHECKPOINT_BYTES_MAX: Final = 64 * KIB
HEADERS_MAX: Final = 32
HEADERS_BYTES_MAX: Final = 8 * KIB
HEADER_KEY_CHARS_MAX: Final = 128
ERROR_TYPE_BYTES_MAX: Final = 256
ERROR_MESSAGE_BYTES_MAX: Final = 4 * KIB
ERROR_STACK_BYTES_MAX: Final = 16 * KIB
PROGRESS_PERCENT_MAX: Final = 100
PROGRESS_NOTE_BYTES_MAX: Final = 1 * KIB

# messages
MESSAGE_BYTES_MAX: Final = 4 * MIB
# Headroom for the envelope of a message that is cut by bytes.
MESSAGE_CUT_BYTES: Final = 3 * MIB
BATCH_ITEMS_MAX: Final = 10_000
PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1000
PAGE_TOKEN_CHARS_MAX: Final = 512
FAILURES_SHOWN_MAX: Final = 100

# priority
PRIORITY_MIN: Final = 1
PRIORITY_DEFAULT: Final = 3
PRIORITY_MAX: Final = 5
# One job of so many is leased from lower priorities first.
PRIORITY_RESERVE_SHARE: Final = 10

# time
RUN_AT_AHEAD_S_MAX: Final = 10 * 365 * 86_400
DEADLINE_S_MIN: Final = 1
DEADLINE_S_MAX: Final = 7 * 86_400
DELAY_S_MAX: Final = RUN_AT_AHEAD_S_MAX
VISIBILITY_TIMEOUT_S_DEFAULT: Final = 30
VISIBILITY_TIMEOUT_S_MIN: Final = 1
VISIBILITY_TIMEOUT_S_MAX: Final = 12 * 3600
HEARTBEATS_PER_VISIBILITY_TIMEOUT: Final = 3
PING_INTERVAL_S: Final = 5.0
PING_INTERVAL_S_MIN: Final = 0.2
PING_INTERVAL_S_MAX: Final = 60.0
# A client that does not read for so long loses its stream, and with it the leases on their way.
WRITE_TIMEOUT_S: Final = 15.0
WRITE_TIMEOUT_S_MIN: Final = 0.5
WRITE_TIMEOUT_S_MAX: Final = 300.0
# A lease that its worker does not hold by then never reached it: streams that carry nothing are ended
# after the write timeout or three pings.
ARRIVES_WITHIN_S: Final = 60.0
LEASE_ONCE_WAIT_S_MAX: Final = 60
LEADER_LEASE_S: Final = 5.0
LEADER_LEASE_S_MIN: Final = 0.5
LEADER_LEASE_S_MAX: Final = 60.0
# A follower tries so often, whatever the lease: a new leader is there within lease + 1 s.
LEADER_POLL_S: Final = 0.25
# As last fence of a heartbeat: the worker stops, and nothing is on its way to it any more.
NOTHING_ON_ITS_WAY: Final = INT64_MAX
# A server says that it lives so often, and is taken for gone when it has not for so long.
PRESENCE_S: Final = 1.0
PRESENT_WITHIN_S: Final = 5.0
# Nobody ticked for the leader's lease and this much more: an outage, and no mere change of leader.
OUTAGE_MARGIN_S: Final = 5.0
# Within one term no change of leader explains a gap, so a shorter one is an outage; and nothing is
# lost or failed by the clock without a tick that recent.
TICKED_WITHIN_S: Final = 2.0

# retries
MAX_ATTEMPTS_DEFAULT: Final = 20
MAX_ATTEMPTS_MIN: Final = 1
MAX_ATTEMPTS_MAX: Final = 1000
CRASH_CAP: Final = 3
BACKOFF_INITIAL_MS_DEFAULT: Final = 1_000
BACKOFF_INITIAL_S_MAX: Final = 3600
BACKOFF_MULTIPLIER_DEFAULT: Final = 2.0
BACKOFF_MULTIPLIER_MIN: Final = 1.0
BACKOFF_MULTIPLIER_MAX: Final = 10.0
BACKOFF_CAP_MS_DEFAULT: Final = 3_600_000
BACKOFF_CAP_S_MAX: Final = 7 * 86_400
UNKNOWN_KIND_DELAY_S: Final = 30
UNKNOWN_KIND_DELIVERIES_MAX: Final = 10

# sessions
SESSION_QUEUES_MAX: Final = 100
SLOTS_MAX: Final = 10_000
LEASE_ONCE_JOBS_MAX: Final = 1000

# retention
FINISHED_RETENTION_DAYS: Final = 7
DEAD_LETTER_RETENTION_DAYS: Final = 30

# database connections of a process beside its pool: for heartbeats and the scheduler, and one that listens
RESERVED_CONNECTIONS: Final = 4

# addresses
GRPC_PORT: Final = 7420
HTTP_PORT: Final = 7421

# processes of one `--processes N`
PROCESSES_MAX: Final = 64
