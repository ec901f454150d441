"""Job ids: UUID version 7 (RFC 9562), which sort by the time they were made.

    0192f6a1-7b1e-7d3c-8f21-9e1c5a2b7d40
    milliseconds  │└┬┘ └──────┬────────┘
          version ┘ │         random, after the two bits of the variant
                    4096ths of the millisecond, counted up where they would repeat

So the ids of one process ascend, and what came in order is stored side by side.
"""

from __future__ import annotations

import os
import threading
import time

DIGITS_AN_ID = 16
# The first two bits of the random part are 10.
VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
THREE_DIGITS = [f"{number:03x}" for number in range(4096)]

_lock = threading.Lock()
_last = 0


def new_job_id() -> str:
    """A new id in canonical text form; the ids of one process ascend."""
    return new_job_ids(1)[0]


def new_job_ids(count: int) -> list[str]:
    """As many new ids, which ascend; a third of what they cost one by one."""
    global _last
    with _lock:
        first = max(time.time_ns() * 4096 // 1_000_000, _last + 1)
        _last = first + count - 1
    digits = os.urandom(count * DIGITS_AN_ID // 2).hex()
    ids: list[str] = []
    millisecond, head = -1, ""
    for at, stamp in zip(
        range(0, len(digits), DIGITS_AN_ID), range(first, first + count), strict=True
    ):
        if stamp >> 12 != millisecond:
            millisecond = stamp >> 12
            head = f"{millisecond:012x}"
            head = f"{head[:8]}-{head[8:]}-7"
        ids.append(
            f"{head}{THREE_DIGITS[stamp & 4095]}-{VARIANT[digits[at]]}{digits[at + 1 : at + 4]}"
            f"-{digits[at + 4 : at + DIGITS_AN_ID]}"
        )
    return ids


def _free_lock() -> None:
    """In a child process nobody is left to give the lock back."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_lock)
