"""Small real systems to break: `make lab` lists them, `make lab NAME=two_workers` runs one.

A lab starts a PostgreSQL, servers and workers in processes of their own, lets the reader break something,
and shows what happens while it happens. It runs twice: first without the guard that the lab is about (a
broken statement of tests/broken laid over the real one, or a naive client), then as AtlasQueue is. A
verdict ends each run: the history checker's (tests/history), or a ratio measured in that very run.

    lab.py        what a lab is: its question, what its naive run lacks, what it plays
    stage.py      what a lab is given: the world, the reader, ways to look
    voice.py      speaks to the reader, waits for Enter, draws the board
    board.py      what is seen of the database: every move of a job, who leads, whose session is lost
    runner.py     one run of a lab, and its verdict
    forgetful.py  a worker without heartbeats, for two_workers

The others are the labs, one a file. Nothing here is a test; tests/labs runs each with --auto.
"""

from __future__ import annotations

from importlib import import_module

from labs.lab import REGISTRY, Lab

NAMES = (
    "two_workers",
    "pinned_xmin",
    "lost_acknowledgement",
    "thundering_herd",
    "poison_job",
    "paused_leader",
)


def labs() -> dict[str, Lab]:
    """All labs by name, in the order of the book."""
    for name in NAMES:
        import_module(f"labs.{name}")
    return {name: REGISTRY[name] for name in NAMES}
