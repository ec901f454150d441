"""Buckets of the histograms of server and worker: the same for both, so that their times can be held together."""

from __future__ import annotations

from typing import Final

# Upper bounds of times in seconds, from a statement to a job that waited for a day; +Inf is left out.
SECONDS: Final = (
    *(0.001, 0.005, 0.01, 0.05, 0.1, 0.5),
    *(1, 5, 10, 30, 60, 300),
    *(1800, 3600, 21_600, 86_400),
)
