"""Job ids: UUID version 7 (RFC 9562), which sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time

_lock = threading.Lock()
_last = 0


def new_job_id() -> str:
    """A new id in canonical text form; the ids of one process ascend."""
    global _last
    random = int.from_bytes(os.urandom(8), "big")
    with _lock:
        # Milliseconds, then 12 bits of the rest of the nanoseconds: ascending within a millisecond too.
        milliseconds, rest = divmod(time.time_ns(), 1_000_000)
        stamp = max((milliseconds << 12) | (rest * 4096 // 1_000_000), _last + 1)
        _last = stamp
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64
    digits = f"{value | 0b10 << 62 | random >> 2:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
