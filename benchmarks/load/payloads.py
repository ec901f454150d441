"""The payload of every benchmark, the same few bytes of JSON for every queue that is measured."""

from __future__ import annotations

import time

QUEUE = "bench"
KIND = "bench"


def numbered(number: int) -> bytes:
    """A payload for throughput."""
    return b'{"n":%d}' % number


def stamped() -> bytes:
    """A payload for latency: CLOCK_REALTIME now, in µs, so that JavaScript can hold it too."""
    return b'{"t":%d}' % (time.time_ns() // 1000)


def age_us(payload: bytes) -> int:
    """Microseconds since `stamped` was called, in whatever process of this machine."""
    return time.time_ns() // 1000 - int(payload[5:-1])
