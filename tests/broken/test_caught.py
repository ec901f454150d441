"""The checker catches what the broken variants do, by name; the same scenes on the real SQL are clean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlasqueue_server.scheduler.expire import Expire
from atlasqueue_server.scheduler.tick import Tick
from atlasqueue_server.store.scheduler import Term, promote_jobs_if_leader
from labs import labs
from tests.broken.faults import FAULTS, HERE, broken_text
from tests.broken.overlay import broken, lay_over, variants
from tests.factories import execute, take_term_by_force
from tests.history.check import check
from tests.history.clerk import Clerk
from tests.history.events import Alive, Clock, Statement
from tests.history.final import install_journal, read_final
from tests.history.history import read_history
from tests.history.recorder import Recorder
from tests.history.verdict import Verdict
from tests.plugins.server import RunningServer, ServerFactory
from tests.waiting import eventually

QUEUE = "scene"


class Stage:
    """A server whose leader the test can stand in for, a clerk, and a history."""

    def __init__(self, server: RunningServer, url: str, directory: Path) -> None:
        self.server = server
        self.url = url
        self.recorder = Recorder(directory, "clerk")
        self.clerk = Clerk(self.recorder, server.channel, QUEUE)
        self._history = self.recorder.path

    async def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a statement."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            return await execute(connection, statement)

    async def expire(self) -> None:
        """All sessions go silent, and the scheduler finds out; what is scheduled is due at once."""
        term = await take_term_by_force(self.url)
        await self.sql("update atlasqueue.sessions set expires_at = now() - interval '1 s'")
        application = self.server.application
        await Expire(application.database, application.signals).tick(term)
        await self.sql("update atlasqueue.scheduled set run_at = now() - interval '1 s'")

    async def retire(self) -> None:
        """The server's own leader takes part no more."""
        election = self.server.application._election
        assert election is not None
        election.cancel()
        await asyncio.gather(election, return_exceptions=True)

    async def promote(self, term: Term) -> int:
        """How many jobs a promote of this term moved."""
        ((epoch,),) = await self.sql("select 'epoch'::timestamptz")
        database = self.server.application.database
        return (await promote_jobs_if_leader(database, term, QUEUE, epoch, 10))[0]

    def live(self, worker: str, seconds: float) -> None:
        """The worker says that it has lived for so long, and a little more."""
        now = time.monotonic()
        self.recorder.record(Clock, at=now - seconds - 1, database=time.time() - seconds - 1)
        for step in range(int((seconds + 20) * 2)):
            self.recorder.record(Alive, who=worker, at=now - seconds - 1 + step / 2)

    def verdict(self) -> Verdict:
        """What the checker says by now."""
        return check(read_history([self._history]), read_final(self.url))


Scene = Callable[[Stage], Coroutine[Any, Any, None]]


async def stale_completion(stage: Stage) -> None:
    """A worker whose lease has expired completes while the second run holds the job."""
    await stage.clerk.enqueue(b"work")
    (first,) = await stage.clerk.lease("slow")
    await stage.expire()
    await stage.promote(await take_term_by_force(stage.url))
    (second,) = await stage.clerk.lease("quick")
    await stage.clerk.complete("slow", first)
    await stage.clerk.complete("quick", second)


async def late_leader(stage: Stage) -> None:
    """A leader promotes under a term that another leader has ended."""
    await stage.retire()
    await stage.clerk.enqueue(b"work")
    await stage.clerk.lease("worker")
    await stage.expire()
    old = await take_term_by_force(stage.url)
    new = await take_term_by_force(stage.url)
    rows = await stage.promote(old)
    stage.recorder.record(
        Statement, name="promote_jobs_if_leader", term=old.term, newest=new.term, rows=rows
    )


async def two_jobs(stage: Stage) -> None:
    """Two jobs are leased."""
    await stage.clerk.enqueue(b"one")
    await stage.clerk.enqueue(b"two")
    leased = [*await stage.clerk.lease("worker"), *await stage.clerk.lease("worker")]
    assert len(leased) == 2


async def outage(stage: Stage) -> None:
    """No server ticks for a minute; then the first tick comes, and the next look at the sessions."""
    await stage.retire()
    await stage.clerk.enqueue(b"work")
    await stage.clerk.lease("worker")
    (timeout_ms,) = (await stage.sql("select visibility_timeout_ms from atlasqueue.sessions"))[0]
    stage.live("worker", timeout_ms / 1000)
    term = await take_term_by_force(stage.url)
    gap = f"interval '{timeout_ms + 60_000} ms'"
    await stage.sql(f"update atlasqueue.leader set ticked_at = clock_timestamp() - {gap}")
    await stage.sql(f"update atlasqueue.sessions set expires_at = expires_at - {gap}")
    application = stage.server.application
    await Tick(application.database).tick(term)
    await Expire(application.database, application.signals).tick(term)


async def lost_worker(stage: Stage) -> None:
    """A worker goes silent."""
    await stage.clerk.enqueue(b"work")
    await stage.clerk.lease("worker")
    await stage.expire()


SCENES: dict[str, tuple[str, Scene]] = {
    "fence": ("I2", stale_completion),
    "grace": ("I9", outage),
    "term": ("I8", late_leader),
    "fence_per_job": ("I3", two_jobs),
    "vanish": ("I1", lost_worker),
}


@contextmanager
def statements_of(variant: str | None, directory: Path) -> Iterator[None]:
    """The real statements, or the broken ones."""
    with broken(variant, directory) if variant else nullcontext():
        yield


async def act(scene: Scene, url: str, start_server: ServerFactory, directory: Path) -> Verdict:
    """Plays a scene and checks it."""
    install_journal(url)
    server = await start_server(url)
    await eventually(lambda: _leads(server))
    stage = Stage(server, url, directory)
    await scene(stage)
    return stage.verdict()


async def _leads(server: RunningServer) -> bool:
    return server.application.leader.term is not None


@pytest.mark.parametrize("variant", sorted(SCENES))
async def test_a_broken_variant_is_caught_by_name(
    variant: str, migrated_database_url: str, start_server: ServerFactory, tmp_path: Path
) -> None:
    invariant, scene = SCENES[variant]
    with statements_of(variant, tmp_path / "sql"):
        verdict = await act(scene, migrated_database_url, start_server, tmp_path)
    assert invariant in verdict.fallen, [str(v) for v in verdict.violations]


@pytest.mark.parametrize("variant", sorted(SCENES))
async def test_the_same_scene_on_the_real_statements_is_clean(
    variant: str, migrated_database_url: str, start_server: ServerFactory, tmp_path: Path
) -> None:
    _, scene = SCENES[variant]
    verdict = await act(scene, migrated_database_url, start_server, tmp_path)
    assert [str(v) for v in verdict.violations] == []


@pytest.mark.parametrize(
    ("variant", "name"), [(variant, name) for variant, files in FAULTS.items() for name in files]
)
def test_a_broken_file_is_the_real_one_but_for_the_fault(variant: str, name: str) -> None:
    committed = (HERE / variant / f"{name}.sql").read_text("utf-8")
    assert committed == broken_text(variant, name), "run python -m tests.broken"


def test_every_variant_is_caught_by_a_scene_or_by_a_lab() -> None:
    of_labs = {lab.variant for lab in labs().values()}
    assert set(variants()) <= set(SCENES) | of_labs


def test_there_are_no_other_broken_files() -> None:
    found = {(file.parent.name, file.stem) for file in HERE.glob("*/*.sql")}
    assert found == {(variant, name) for variant, files in FAULTS.items() for name in files}


def test_an_unknown_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no broken variant 'fences': there are fence, "):
        lay_over("fences", tmp_path)
