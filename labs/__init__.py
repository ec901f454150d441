"""Small real systems to break: `make lab` lists them, `make lab NAME=two_workers` runs one.

A lab starts a PostgreSQL, servers and workers in processes of their own, lets the reader break something,
and shows what happens while it happens. It runs twice: first without the guard that the lab is about (a
broken statement of tests/broken laid over the real one, or a naive client), then as AtlasQueue is. A
verdict ends each run: the history checker's (tests/history), or a ratio measured in that very run.

    stage.py    what a lab is given: the world, the reader, ways to look
    voice.py    speaks to the reader, waits for Enter, draws the board
    board.py    what is seen of the database: every move of a job, who leads, whose session is lost
    runner.py   both runs of a lab, their verdicts, the end

The six others are the labs, one a file. Nothing here is a test; tests/labs runs each with --auto.
"""

from __future__ import annotations

from importlib import import_module

from labs.lab import REGISTRY, Lab

NAMES = (
    "two_workers",
    "paused_leader",
    "pinned_xmin",
    "poison_job",
    "lost_acknowledgement",
    "thundering_herd",
)


def labs() -> dict[str, Lab]:
    """All labs by name, in the order of the book."""
    for name in NAMES:
        import_module(f"labs.{name}")
    return {name: REGISTRY[name] for name in NAMES}
