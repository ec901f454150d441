"""Two workers hold one job, because the first was away for longer than its lease."""

from __future__ import annotations

import asyncio
import json
import sys

from labs.forgetful import NAME
from labs.lab import lab
from labs.stage import Stage

GATE = "second"


@lab(
    "two_workers",
    "Two workers, one job",
    question=(
        "A worker takes a job, and its machine stands still: a laptop lid, a virtual machine that moves, "
        "a long garbage collection. Its lease runs out, another worker gets the job. Then the first one "
        "wakes up, knows nothing of all that, finishes its work and reports. Whose result counts?"
    ),
    missing="the fence",
    chapter="1-concurrency.md",
    variant="fence",
    servers=1,
    workers=0,
)
async def two_workers(stage: Stage) -> None:
    """Both report; the checker compares what they were told with what is stored."""
    progress = stage.arena.progress
    (job,) = await stage.enqueue(1, "hold", gate=GATE)
    address = stage.arena.addresses["server_1"]
    first = stage.arena.start_other(NAME, [sys.executable, "-m", "labs.forgetful", address])
    await stage.until(lambda: len(progress.deliveries(job)) == 1, "the first worker has the job")
    stage.say("The worker `forgetful` holds the job. It sends no heartbeats.")
    await stage.key("SIGSTOP forgetful: its machine stands still")
    first.stop()
    stage.arena.start_worker("worker_1")
    await stage.until(lambda: len(progress.deliveries(job)) == 2, "the job runs again")
    stage.say("Now two processes believe that the job is theirs. One of them is right.")
    await stage.key("SIGCONT forgetful: it wakes up and reports")
    stage.open_gate(NAME)
    first.resume()
    await asyncio.to_thread(first.wait)
    await _tell_answer(stage, job)
    await stage.key("let worker_1 finish as well")
    stage.open_gate(GATE)
    await stage.until(
        lambda: len(answers(stage, job)) == 2 or _told_that_it_is_lost(stage),
        "both have their answer",
    )
    if _told_that_it_is_lost(stage):
        stage.event("worker_1 was told by a heartbeat that the job is not its own any more", "red")
    else:
        await _tell_answer(stage, job)
    await stage.arena.settle()
    ((fence,),) = await stage.sql("select fence from atlasqueue.finished")
    stage.say(f"Stored: one outcome, under fence {fence}.")


def answers(stage: Stage, job: str) -> list[tuple[str, int, str]]:
    """Who reported on a job under which fence, and what it was told."""
    lines = []
    for file in sorted(stage.arena.history.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            if '"reported"' in line:
                event = json.loads(line)
                if event["job_id"] == job:
                    lines.append((event["at"], event["who"], event["fence"], event["answer"]))
    return [(who, fence, answer) for _, who, fence, answer in sorted(lines)]


def _told_that_it_is_lost(stage: Stage) -> bool:
    # Where the first one's report was taken, the next heartbeat of worker_1 may come before its report.
    return "lease_lost" in stage.arena.workers["worker_1"].log.read_text()


async def _tell_answer(stage: Stage, job: str) -> None:
    await stage.catch_up()
    who, fence, answer = answers(stage, job)[-1]
    style = "green" if answer == "applied" else "red"
    stage.event(f"{who} reports complete under fence {fence}: {answer.upper()}", style)
