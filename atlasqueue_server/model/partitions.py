"""The days of finished: each has a table of its own, made ahead of time and dropped whole."""

from __future__ import annotations

from datetime import date
from typing import Final

# Today and the two days to come.
DAYS_AHEAD: Final = 3
PREFIX: Final = "finished_"


def partition_name(day: date) -> str:
    """The table that holds a day of finished."""
    return f"{PREFIX}{day:%Y%m%d}"


def partition_day(name: str) -> date:
    """The day that a table of finished holds."""
    digits = name.removeprefix(PREFIX)
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
