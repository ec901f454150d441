"""What the machine draws, and how: strategies, and two corrections to Hypothesis's own way of drawing."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS

from atlasqueue_server.model.jobs import OutcomeKind
from tests.machine.nouns import Body, Key, Lease
from tests.machine.real import job_id_of

# Hypothesis's own way of drawing spends most of a short run on copies and on examples of one verb alone.
# Registered under another name, the same provider draws each example afresh.
AVAILABLE_PROVIDERS["uniform"] = "hypothesis.internal.conjecture.providers.HypothesisProvider"

QUEUES = ("mail", "media")
# Few ids, so that verbs meet.
KEYS = st.builds(Key, st.sampled_from(QUEUES), st.integers(1, 8).map(job_id_of))
BODIES = st.builds(
    Body,
    st.sampled_from(["a", "b"]),
    st.sampled_from([2, 3]),
    st.sampled_from([False, False, True]),
    st.booleans(),
    st.sampled_from([None, 1, 2]),
)
KINDS = st.sampled_from(OutcomeKind)
# What the scheduler does.
TICKS = ["lose_sessions", "expire", "fail_overdue", "promote", "fold_depths", "tick"]
# A lease that was granted in this example, standing or not. (A bundle that is empty would make Hypothesis
# throw the whole example away.)
NEVER = Lease(Key(QUEUES[0], job_id_of(1)), 1)
LEASES = st.runner().flatmap(lambda machine: st.sampled_from(machine.granted or [NEVER]))
# Mostly its own fence, now and then one that was never granted.
FENCE_OFF = st.sampled_from([0, 0, 0, 0, 0, -1, 1])


def beside(lease: Lease, off: int) -> Lease:
    """The lease under a fence that is so far from its own."""
    return lease._replace(fence=max(1, lease.fence + off))


class AllVerbs:
    """The answer to Hypothesis's question which rules an example may use."""

    def is_enabled(self, name: str) -> bool:
        """Every one."""
        return True


ALL = AllVerbs()
