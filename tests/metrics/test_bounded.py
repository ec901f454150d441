"""10 000 names of queues and kinds of their own make a bounded number of series, and no job is lost in them."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry

from atlasqueue_server.metrics.journal import Journal
from atlasqueue_server.metrics.names import PAIRS_MAX, QUEUES_MAX, Names
from atlasqueue_server.model.jobs import Outcome, OutcomeKind
from atlasqueue_server.model.states import State
from atlasqueue_server.observe import _queues as observe_queues
from atlasqueue_server.store.lease import LeasedRow
from atlasqueue_server.store.observe import QueueReading
from tests.factories import new_job

NAMES = 10_000
# Of the journal: 20 counters, and histograms of up to 19 samples by queue and by pair.
PAIRS = PAIRS_MAX + 2 * (QUEUES_MAX + 1)
SERIES_MAX = PAIRS * (12 + 19) + (QUEUES_MAX + 1) * (8 + 19) + 100


def test_every_verb_with_names_of_its_own_for_each_job() -> None:
    registry = CollectorRegistry()
    journal = Journal(registry)
    seeded = random.Random(7)
    for fence in range(1, NAMES + 1):
        queue, kind = f"q{seeded.getrandbits(64):x}", f"k{seeded.getrandbits(64):x}"
        job = new_job(queue, kind=kind)
        journal.enqueued(queue, [job], 1, 1)
        row = LeasedRow(1, b"j" * 16, fence, kind, b"", None, 3, 0, 0, 1, None, None, 20, fence, None, 0.1)  # fmt: skip
        journal.leased(queue, [row])
        verb, state = seeded.choice(
            [(OutcomeKind.COMPLETE, State.SUCCEEDED), (OutcomeKind.FAIL, State.DEAD)]
        )
        outcome = Outcome(queue, job.job_id, fence, verb)
        journal.reported({(queue, verb): [outcome]}, {fence: state})
        journal.promoted(queue, 1)
        journal.expired(queue, job.job_id, fence, "scheduled")
    samples = [sample for family in registry.collect() for sample in family.samples]
    assert len(samples) < SERIES_MAX
    for name in ("enqueued", "leased", "promoted", "expired"):
        assert total(registry, f"atlasqueue_jobs_{name}_total") == NAMES
    ended = sum(
        total(registry, f"atlasqueue_jobs_{n}_total") for n in ("completed", "dead_lettered")
    )
    assert ended == total(registry, "atlasqueue_job_run_seconds_count") == NAMES


def test_a_paused_queue_behind_other_neither_waits_nor_hides_one_that_does() -> None:
    """How it showed: the alert leaves paused queues out, and with one of them behind `_other` all that stand there."""

    def queue(name: str, oldest_ready_s: float, paused: bool = False) -> QueueReading:
        return QueueReading(name, 0, 1, 0, 0, 0, 0, paused, oldest_ready_s, False)

    names = Names(queues_max=1)
    queues = [queue("own", 1.0, True), queue("held", 3600.0, True), queue("late", 60.0)]
    [oldest] = [
        family
        for family in observe_queues(queues, names)
        if family.name == "atlasqueue_queue_oldest_ready_age_seconds"
    ]
    ages = {sample.labels["queue"]: sample.value for sample in oldest.samples}
    assert ages == {"own": 1.0, "_other": 60.0}


def total(registry: CollectorRegistry, name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(s.value for f in registry.collect() for s in f.samples if s.name == name)
