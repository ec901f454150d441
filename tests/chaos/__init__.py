"""Faults on real processes: does the promise hold?

    scenarios/*.py   one fault each: when it strikes (by progress, never by the clock) and what must hold
    arena.py         a PostgreSQL, servers and workers as processes, and what can be done to them
    load.py          producers; handlers.py and hooks.py: the workers' side
    runner.py        one scenario with one seed: run, check its history, keep what is needed to see why
    report.py        the table

`make chaos` runs all; docs/chaos.md tells how to read it.
"""
