"""Ids of the lines of one run.

Each line's job has an id that is made from the run and the line's number, not drawn anew:

    │ 48 bits            │ 4 │ 12 bits     │ 2 │ 20 bits    │ 42 bits │
    │ start of the run   │ 7 │ line number │10 │ its rest   │ the run │

So it is a UUID of version 7 (RFC 9562), ids ascend with the lines, and who feeds the same lines with the same
run again, after a crash or a Ctrl-C, sends the same ids: what was stored before stays one job.
"""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

LINES_MAX = 2**32 - 1
# The end of the year 9999, where datetime ends.
MILLISECONDS_MAX = 253_402_300_799_999
SECRET_BITS = 42
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Run:
    """When a run began, in milliseconds since 1970, and what tells it from others of that moment."""

    milliseconds: int
    secret: int

    @classmethod
    def new(cls) -> Run:
        """A run that begins now."""
        return cls(time.time_ns() // 1_000_000, secrets.randbits(SECRET_BITS))

    @classmethod
    def parse(cls, text: str) -> Run:
        """The run that `str` named. Raises ValueError."""
        value = uuid.UUID(text).int
        run = cls(value >> 80, value & ((1 << SECRET_BITS) - 1))
        if str(run) != text.lower() or run.milliseconds > MILLISECONDS_MAX:
            raise ValueError("not the id of a run")
        return run

    def job_id(self, line: int) -> str:
        """The id of the job in a line, 1 being the first. Raises ValueError beyond LINES_MAX."""
        if not 0 <= line <= LINES_MAX:
            raise ValueError(f"a run has at most {LINES_MAX} lines")
        high, low = line >> 20, line & 0xFFFFF
        value = self.milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62
        digits = f"{value | low << SECRET_BITS | self.secret:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    @property
    def started_at(self) -> datetime:
        """When the run began, to the millisecond."""
        return EPOCH + timedelta(milliseconds=self.milliseconds)

    def __str__(self) -> str:
        """The run's own id: that of line 0, which is no line."""
        return self.job_id(0)
