"""Everything fails at once, and everything comes back at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from atlasqueue import QueuePolicy, RetryPolicy
from atlasqueue_server.model import retry
from labs.lab import Verdict, lab
from labs.stage import Stage
from tests.chaos.names import QUEUE

JOBS = 200
BACKOFF_MS = 4000
BUCKETS = 8
# Of 8 buckets an even spread puts an eighth into each; half of 200 draws in one: below 1e-30.
CAUGHT_FROM = 0.5
# Notes what the server's own statements write, before anything is promoted.
NOTE_DELAYS = """
    create table journal.delays (job_id uuid, delay_ms float);
    grant insert on journal.delays to public;
    create function journal.note_delay() returns trigger language plpgsql as $$
    begin
        insert into journal.delays
        select job_id, extract(epoch from run_at - now()) * 1000 from arrived where cause = 'f';
        return null;
    end $$;
    create trigger journal_delay after insert on atlasqueue.scheduled
    referencing new table as arrived for each statement execute function journal.note_delay();
"""
DELAYS = (
    "select delay_ms from journal.delays where (select count(*) from journal.delays) >= %(jobs)s"
)
ARRIVALS = """
    select floor(extract(epoch from at - (select min(at) from journal.moves where place = 'scheduled')) * 2)
        / 2 as half_second, count(*)
    from journal.moves where place = 'ready' and cause = 'p' group by half_second order by half_second
"""


@lab(
    "thundering_herd",
    "A thundering herd",
    question=(
        "Two hundred jobs call the same service. It is restarted, and all of them fail within a moment. "
        "Each is retried after at most four seconds. What does the service see while it comes back?"
    ),
    missing="the jitter",
    chapter="4-trade-offs.md",
    variant="no_jitter",
    many_jobs=True,
    servers=1,
    workers=1,
    slots=200,
)
async def thundering_herd(stage: Stage) -> Verdict:
    """Counts when the retries are due, in eighths of the longest backoff."""
    jobs = JOBS
    await stage.sql(NOTE_DELAYS)
    # The arithmetic under which the database draws (model/retry.py), and the same for the queue.
    retries = retry.RetryPolicy(backoff_initial_ms=BACKOFF_MS, backoff_cap_ms=BACKOFF_MS)
    ceiling = retry.backoff_ceiling_ms(retries, failures=1)
    longest = timedelta(milliseconds=BACKOFF_MS)
    async with stage.arena.client() as client:
        policy = RetryPolicy(initial_backoff=longest, max_backoff=longest)
        await client.queues.update_policy(QUEUE, QueuePolicy(policy, timedelta(seconds=30)))
    await stage.key(f"enqueue {jobs} jobs; the first attempt of each fails")
    await stage.enqueue(jobs, ms=0, first="fail")
    rows = await stage.until_rows(DELAYS, jobs=jobs)
    shares = spread([delay for (delay,) in rows], ceiling)
    for number, share in enumerate(shares):
        eighth = f"{number * ceiling / BUCKETS / 1000:.1f} to {(number + 1) * ceiling / BUCKETS / 1000:.1f} s"
        stage.event(f"due in {eighth}: {share:4.0%} {'█' * round(40 * share)}", "yellow")
    stage.say("Now wait for them: what the service sees, each half second.")
    await stage.arena.settle()
    for half_second, count in await stage.sql(ARRIVALS):
        stage.event(f"at {half_second:4.1f} s: {count:4} calls {'█' * (count // 5)}", "yellow")
    says = f"the busiest eighth of the backoff holds {max(shares):.0%} of the retries (evenly: {1 / BUCKETS:.0%})"
    return Verdict(max(shares) >= CAUGHT_FROM, says)


def spread(delays_ms: Sequence[float], ceiling_ms: float) -> list[float]:
    """The share of the delays in each eighth of [0, ceiling]."""
    counts = [0] * BUCKETS
    for delay in delays_ms:
        counts[min(BUCKETS - 1, int(delay / ceiling_ms * BUCKETS))] += 1
    return [count / len(delays_ms) for count in counts]
