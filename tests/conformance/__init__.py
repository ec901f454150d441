"""One suite that every SDK must pass.

    cases/*.yaml    the cases, as data: what to call, how handlers behave, what must come back
    notation.py     how cases write bytes, times and what is expected
    cases.py        reads the cases
    executor.py     an SDK's executor as a process: JSON lines in, JSON lines out
    stage.py        the server, the link between executor and server, a rival worker
    player.py       plays one case
    suite.py        plays all of them with one executor
    executors/      the executor of the Python SDK, and broken ones that must fail

`make conformance` runs it; docs/protocol.md tells how to write an executor for another language.
"""
