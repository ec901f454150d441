"""The checker catches what the broken variants do, by name; the same scenes on the real SQL are clean."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlasqueue_server.scheduler.expire import Expire
from atlasqueue_server.store.scheduler import Term, promote_jobs_if_leader
from tests.broken.overlay import HERE, REAL, broken, variants
from tests.factories import execute, take_term_by_force
from tests.history.check import check
from tests.history.clerk import Clerk
from tests.history.events import Statement
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

    async def promote(self, term: Term) -> int:
        """How many jobs a promote of this term moved."""
        ((epoch,),) = await self.sql("select 'epoch'::timestamptz")
        database = self.server.application.database
        return (await promote_jobs_if_leader(database, term, QUEUE, epoch, 10))[0]

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
    await stage.clerk.lease("worker")
    await stage.clerk.lease("worker")


async def lost_worker(stage: Stage) -> None:
    """A worker goes silent."""
    await stage.clerk.enqueue(b"work")
    await stage.clerk.lease("worker")
    await stage.expire()


SCENES: dict[str, tuple[str, Scene]] = {
    "fence": ("I2", stale_completion),
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


@pytest.mark.parametrize("variant", variants())
async def test_a_broken_variant_is_caught_by_name(
    variant: str, migrated_database_url: str, start_server: ServerFactory, tmp_path: Path
) -> None:
    invariant, scene = SCENES[variant]
    with statements_of(variant, tmp_path / "sql"):
        verdict = await act(scene, migrated_database_url, start_server, tmp_path)
    assert invariant in verdict.fallen, [str(v) for v in verdict.violations]


@pytest.mark.parametrize("variant", variants())
async def test_the_same_scene_on_the_real_statements_is_clean(
    variant: str, migrated_database_url: str, start_server: ServerFactory, tmp_path: Path
) -> None:
    _, scene = SCENES[variant]
    verdict = await act(scene, migrated_database_url, start_server, tmp_path)
    assert [str(v) for v in verdict.violations] == []


@pytest.mark.parametrize("variant", variants())
def test_a_broken_file_is_the_real_one_but_for_the_fault(variant: str) -> None:
    # Otherwise a change of the real statement would leave the broken one behind, broken twice.
    for file in (HERE / variant).glob("*.sql"):
        real, fault = (REAL / file.name).read_text(), file.read_text()
        lines = list(difflib.ndiff(real.splitlines(), fault.splitlines()))
        assert sum(line.startswith("+ ") for line in lines) <= 4, file
        assert 1 <= sum(line.startswith("- ") for line in lines) <= 12, file
