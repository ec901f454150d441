"""Jobs in columns are the same sequence as the jobs one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atlasqueue_server.model.retry import RetryPolicy
from tests.factories import new_job, uniform_of

JOBS = [
    new_job("mail", payload=b"%d" % n, priority=2, policy=RetryPolicy(max_attempts=3))
    for n in range(7)
]
BOUNDS = st.none() | st.integers(-9, 9)


@given(BOUNDS, BOUNDS, st.integers(-7, 6))
def test_they_are_counted_found_and_cut_as_a_list_is(
    start: int | None, stop: int | None, at: int
) -> None:
    jobs = uniform_of(JOBS)
    assert (len(jobs), list(jobs), jobs[at]) == (len(JOBS), JOBS, JOBS[at])
    run = JOBS[start:stop]
    cut = jobs[start:stop]
    assert (len(cut), list(cut)) == (len(run), run)
    assert len(cut.job_ids) == 16 * len(run)
