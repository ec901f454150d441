"""What a lab is given: a world that runs, a reader who breaks it, ways to look at it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from atlasqueue.ids import new_job_id
from atlasqueue.jobs import NewJob
from labs.board import Board
from labs.voice import Voice
from tests.chaos.arena import Arena
from tests.chaos.load import record_enqueued
from tests.chaos.names import QUEUE

OK = {"ms": 1, "first": "ok"}


class Stage:
    """One run of a lab. `naive`: without what the lab is about. `short`: few jobs, for tests."""

    def __init__(
        self, arena: Arena, voice: Voice, board: Board, *, naive: bool, short: bool
    ) -> None:
        self.arena = arena
        self.catch_up = board.catch_up
        self.naive = naive
        self.short = short
        self._voice = voice
        self.say = voice.say
        self.event = voice.event

    async def key(self, prompt: str) -> None:
        """The reader presses Enter, after all that has happened was told."""
        await self.catch_up()
        await self._voice.key(prompt)

    def of(self, short: int, full: int) -> int:
        """A number by the form of the run."""
        return short if self.short else full

    async def enqueue(self, count: int, kind: str = "work", **script: Any) -> list[str]:
        """Jobs of the chaos handlers (tests/chaos/handlers.py); their ids."""
        payload = json.dumps(OK | script).encode()
        jobs = [NewJob(QUEUE, kind, payload, job_id=new_job_id()) for _ in range(count)]
        async with self.arena.client() as client:
            await client.enqueue_many(jobs)
        for job in jobs:
            record_enqueued(self.arena, job)
        return [job.job_id or "" for job in jobs]

    def open_gate(self, name: str) -> None:
        """Lets what waits for it go on: a `hold` job, or the lab's own worker."""
        (self.arena.history / name).touch()

    async def sql(self, statement: str, **params: Any) -> list[tuple[Any, ...]]:
        """Rows, as an operator sees them."""
        return await self.arena.sql(statement, **params)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for something that the processes' histories tell. Raises Stuck."""
        await self.arena.progress.until(condition, what)

    async def until_rows(self, statement: str, **params: Any) -> list[tuple[Any, ...]]:
        """Waits until a query finds something; polled, for it lives in the database."""
        async with asyncio.timeout(120):
            while not (rows := await self.sql(statement, **params)):
                await asyncio.sleep(0.1)
        return rows
