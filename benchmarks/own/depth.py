"""Does it matter how many jobs wait?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from urllib.parse import urlsplit

import psycopg

from benchmarks.harness.console import say
from benchmarks.harness.interleave import Measure
from benchmarks.harness.server import migrate
from benchmarks.own.context import Context, Metrics
from benchmarks.own.rows import preload

CLAIM_BATCH = 100


@contextmanager
def waiting(context: Context, jobs: int) -> Iterator[str]:
    """The name of a database in which `jobs` jobs wait, as a template for others."""
    say(f"writing {jobs:,} waiting jobs".replace(",", " "))
    with context.postgres.database() as url:
        migrate(url)
        preload(url, jobs)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("vacuum analyze")
        yield urlsplit(url).path.lstrip("/")


def _at_depth(context: Context, template: str) -> dict[str, Metrics]:
    """The rate of a worker that never sees the end of it, and the time of single claims."""
    with context.server(template) as live:
        rate = live.measure("worker", live.worker(jobs=context.sizes.jobs))
    with context.server(template) as live:
        runner = live.runner("claim", claims=context.sizes.claims, batch=CLAIM_BATCH)
        claims = live.measure("worker", runner)
    return {"backlog": rate, "backlog_claim": claims}


@contextmanager
def backlog(context: Context) -> Iterator[dict[str, Measure]]:
    """At least so many jobs wait all the while: more are put before them than are worked."""
    extra = context.sizes.jobs + context.sizes.claims * CLAIM_BATCH + context.slots
    depths = context.sizes.backlogs

    with ExitStack() as stack:
        templates = {d: stack.enter_context(waiting(context, d + extra)) for d in depths}
        yield {
            f"{depth:,} waiting".replace(",", " "): partial(_at_depth, context, template)
            for depth, template in templates.items()
        }
