"""`python -m labs.forgetful ADDRESS`: a worker of a few lines, without heartbeats, that holds one job too long.

It is what many first workers look like: take a job, do the work, report. The work ends when the file
`forgetful` appears in the history's directory.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import grpc

from tests.chaos.names import DIRECTORY_VARIABLE, QUEUE
from tests.history.clerk import Clerk
from tests.history.recorder import Recorder

NAME = "forgetful"


async def main(address: str) -> None:
    """One job, from lease to report."""
    history = Path(os.environ[DIRECTORY_VARIABLE])
    async with grpc.aio.insecure_channel(address) as channel:
        clerk = Clerk(Recorder(history, NAME), channel, QUEUE)
        (job,) = await clerk.lease(NAME)
        while not (history / NAME).exists():
            await asyncio.sleep(0.05)
        await clerk.complete(NAME, job)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
