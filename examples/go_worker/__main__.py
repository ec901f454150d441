"""python -m examples.go_worker: Python enqueues, two Go workers work, Python reads what became of it."""

from __future__ import annotations

import json
import sys

from atlasqueue import Client, JobCancelled, JobDied, JobState, NewJob
from atlasqueue_server.testing import running_server
from examples.stage import go_program, process, quiet, say

QUEUE = "numbers"
STEP, END = 10_000, 200_000
PRIMES = 17_984


def span(first: int, end: int) -> NewJob:
    """A job for the numbers from `first` to less than `end`."""
    return NewJob(QUEUE, "count-primes", json.dumps({"from": first, "to": end}).encode())


def count(client: Client) -> int:
    """Many jobs, and the sum of their results."""
    job_ids = client.enqueue_many(span(n, n + STEP) for n in range(0, END, STEP))
    jobs = [client.wait(job_id, timeout=60) for job_id in job_ids]
    primes: int = sum(json.loads(job.result or b"{}")["primes"] for job in jobs)
    say(f"Python: {len(jobs)} jobs found {primes} primes below {END}")
    return primes


def reject(client: Client) -> str:
    """A job that can never succeed; why, in the worker's words."""
    (job_id,) = client.enqueue_many([span(7, 7)])
    try:
        client.wait(job_id, timeout=60)
    except JobDied as died:
        why = died.job.failures[-1].message
        say(f"Python: a dead letter: {why}")
        return why
    return ""


def cancel(client: Client) -> bool:
    """A job that would take hours, cancelled once it runs; whether that was its end."""
    (job_id,) = client.enqueue_many([span(0, 10**9)])
    for job in client.watch(job_id):
        if job.state is JobState.LEASED:
            break
    client.cancel(job_id)
    try:
        client.wait(job_id, timeout=60)
    except JobCancelled:
        say("Python: a job of hours was cancelled while it ran")
        return True
    return False


def main() -> int:
    """Builds the worker and starts everything."""
    quiet()
    with (
        go_program("go_worker/worker") as worker,
        running_server() as server,
        process([worker], server.address),
        process([worker], server.address),
        Client(server.address) as client,
    ):
        primes, why, cancelled = count(client), reject(client), cancel(client)
    return 0 if primes == PRIMES and "no number" in why and cancelled else 1


if __name__ == "__main__":
    sys.exit(main())
