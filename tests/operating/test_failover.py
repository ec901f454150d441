"""Failover of PostgreSQL under load: with a synchronous standby the promise holds, without one it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.runner import run
from tests.chaos.scenarios import scenarios

KEPT = Path(__file__).parents[2] / "build" / "chaos"
SEED = 1
# The 2 s of I6 are judged by `make chaos`; here other tests load the machine.
EXPIRY_SLACK_S = 30.0


@pytest.mark.timeout(300)
async def test_a_promoted_standby_has_all_that_was_acknowledged() -> None:
    result = await run(
        scenarios()["failover"],
        SEED,
        KEPT / "short-failover",
        short=True,
        expiry_slack_s=EXPIRY_SLACK_S,
    )
    assert result.verdict == "OK", f"{result.why}\nkept: {result.kept}"
    assert result.faults


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_an_asynchronous_standby_lacks_some_of_it_and_the_checker_says_so(
    tmp_path: Path,
) -> None:
    """What shows that the test above would fail if commits did not wait for the standby."""
    scenario = scenarios()["failover"]
    scenario = replace(scenario, settings=replace(scenario.settings, standby="asynchronous"))
    result = await run(scenario, SEED, tmp_path / "kept", short=True, expiry_slack_s=EXPIRY_SLACK_S)
    assert result.verdict == "FAILED"
    assert "I1" in result.fallen, result.why
