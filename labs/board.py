"""What is seen of the database while a lab runs: each move as a line, and where everything stands now.

The moves come from the journal that triggers write (tests/history/journal.sql), so that none is missed and
each is told with the process that made it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import psycopg
from rich.table import Table

from labs.voice import Voice

EACH_S = 0.25
# The verb that the cause of an arrival stands for (migrations/0001_initial.sql).
VERBS = {
    "e": "enqueue", "p": "promote", "f": "fail", "s": "snooze", "l": "release", "c": "reconcile",
    "x": "expire", "d": "deadline", "k": "unknown_kind", "r": "redrive",
}  # fmt: skip
STYLES = {"dead": "red", "succeeded": "green", "leased": "yellow"}

MOVES = "select id, job_id::text, place, coalesce(cause::text, ''), fence, actor from journal.moves where id > %(last)s order by id"
LEADERS = "select id, term, actor from journal.terms where id > %(last)s order by id"
LOST = "select id, worker from journal.sessions where id > %(last)s and lost order by id"
NOW = """
    select
        (select count(*) from atlasqueue.scheduled), (select count(*) from atlasqueue.ready),
        (select count(*) from atlasqueue.leased),
        (select count(*) from atlasqueue.finished where state = 's'),
        (select count(*) from atlasqueue.dead_letters)
"""
SESSIONS = """
    select
        worker, lost, greatest(0, extract(epoch from expires_at - clock_timestamp()))::float,
        (select count(*) from atlasqueue.leased l where l.session_id = s.session_id)
    from atlasqueue.sessions s order by session_id
"""


class Board:
    """Watches one database. `quiet`: too many jobs to tell every move."""

    def __init__(self, url: str, voice: Voice, *, quiet: bool) -> None:
        self._url = url
        self._voice = voice
        self._quiet = quiet
        self._move = self._term_row = self._session_row = 0
        self._leads: tuple[int, str] = (0, "nobody")
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Looks again and again."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True
                ) as connection:
                    while True:
                        await self._look_for_all(connection)
                        with suppress(TimeoutError):
                            await asyncio.wait_for(self._wake.wait(), EACH_S)
            except psycopg.OperationalError:
                await asyncio.sleep(EACH_S)

    async def catch_up(self) -> None:
        """Returns when all that has happened by now has been told."""
        seen = asyncio.get_running_loop().create_future()
        self._waiting.append(seen)
        self._wake.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(seen, 2)

    async def _look_for_all(self, connection: Any) -> None:
        self._wake.clear()
        waiting, self._waiting = self._waiting, []
        await self._look(connection)
        for seen in waiting:
            if not seen.done():
                seen.set_result(None)

    async def _look(self, connection: Any) -> None:
        async def rows(statement: str, **values: Any) -> list[Any]:
            return await (await connection.execute(statement.encode(), values)).fetchall()

        for number, term, actor in await rows(LEADERS, last=self._term_row):
            self._term_row = number
            if term > self._leads[0]:
                self._leads = term, actor
                self._voice.event(f"{actor} leads, term {term}", "magenta")
        for number, worker in await rows(LOST, last=self._session_row):
            self._session_row = number
            self._voice.event(f"the session of {worker} is lost, for good", "red")
        if not self._quiet:
            for number, job, place, cause, fence, actor in await rows(MOVES, last=self._move):
                self._move = number
                self._tell(job, place, cause, fence, actor)
        (counts,) = await rows(NOW)
        self._draw(counts, await rows(SESSIONS))

    def _tell(self, job: str, place: str, cause: str, fence: int | None, actor: str) -> None:
        under = f" under fence {fence}" if fence and place != "ready" else ""
        verb = f" ({VERBS.get(cause, cause)})" if cause and place in ("ready", "scheduled") else ""
        text = f"job …{job[-4:]} is {place}{under}{verb}"
        self._voice.event(f"{text:48} by {actor}", STYLES.get(place, "dim"))

    def _draw(self, counts: tuple[int, ...], sessions: list[Any]) -> None:
        table = Table.grid(padding=(0, 3))
        places = ("scheduled", "ready", "leased", "succeeded", "dead")
        text = "   ".join(f"{place} {n}" for place, n in zip(places, counts, strict=True))
        table.add_row("jobs", text)
        table.add_row("leader", f"{self._leads[1]}, term {self._leads[0]}")
        for worker, lost, left, held in sessions[-6:]:
            state = "LOST" if lost else f"expires in {left:.1f} s unless it sends a heartbeat"
            table.add_row(f"session {worker}", f"holds {held}   {state}")
        self._voice.board = table
