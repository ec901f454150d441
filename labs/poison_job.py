"""A job that kills whoever runs it."""

from __future__ import annotations

import asyncio

from atlasqueue_server.model.limits import CRASH_CAP
from labs.lab import Verdict, lab
from labs.stage import Stage

BEYOND = 2


@lab(
    "poison_job",
    "A poison job",
    question=(
        "A job makes its worker's process die: a broken image in a C library, too much memory. No exception "
        "reaches anybody, so no attempt fails. The lease expires, and the job is delivered again, to the "
        "worker that was started in place of the dead one. When does it end?"
    ),
    missing="the crash cap",
    chapter="5-observability.md",
    variant="no_crash_cap",
    servers=1,
    workers=1,
    visibility_timeout_s=1.0,
    slots=1,
)
async def poison_job(stage: Stage) -> Verdict:
    """Counts how many workers one job kills."""
    arena = stage.arena
    stage.say("A supervisor starts a new worker whenever one dies, as systemd or Kubernetes would.")
    await stage.key("enqueue a job that kills its worker, and five good ones")
    (poison,) = await stage.enqueue(1, "abort")
    await stage.enqueue(5, ms=10)
    deaths = 0
    while deaths < CRASH_CAP + BEYOND and not await _is_dead(stage, poison):
        worker = arena.workers["worker_1"]
        if worker.poll() is not None:
            deaths += 1
            worker.wanted_gone = True
            stage.event(f"{worker.who} died; the supervisor starts another", "red")
            arena.start_worker("worker_1")
        await asyncio.sleep(0.05)
    if not await _is_dead(stage, poison):
        says = f"{deaths} workers are dead, the cap is {CRASH_CAP}, and the job is still to be delivered again"
        return Verdict(True, says)
    rows = await stage.until_rows("select count(*) from atlasqueue.finished having count(*) = 5")
    says = f"a dead letter (CRASH_LOOP) after {deaths} dead workers; the {rows[0][0]} good jobs succeeded"
    return Verdict(deaths > CRASH_CAP, says)


async def _is_dead(stage: Stage, job: str) -> bool:
    statement = "select 1 from atlasqueue.dead_letters where job_id = %(job)s and reason = 'c'"
    return bool(await stage.sql(statement, job=job))
