"""The short form of `make chaos`: a few scenarios a day, drawn by the date, with few jobs; half of them are `long`.

CHAOS_SEED=20260131 draws those of another day. A failure prints how to run it again alone.
"""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from tests.chaos.runner import run
from tests.chaos.scenarios import Scenario, scenarios

DRAWN = 4
NOT_LONG = 2
SEED = int(os.environ.get("CHAOS_SEED") or f"{datetime.now(UTC):%Y%m%d}")
KEPT = Path(__file__).parents[2] / "build" / "chaos"
# The 2 s of I6 are judged by `make chaos`; here other tests load the machine.
EXPIRY_SLACK_S = 30.0


def drawn() -> list[ParameterSet]:
    """The scenarios of this seed."""
    able = [one for one in scenarios().values() if one.in_short_form]
    return [
        pytest.param(
            one, id=f"{one.name}-{SEED}", marks=[pytest.mark.long] if i >= NOT_LONG else []
        )
        for i, one in enumerate(random.Random(SEED).sample(able, DRAWN))
    ]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("scenario", drawn())
async def test_the_promise_holds(scenario: Scenario) -> None:
    result = await run(
        scenario,
        SEED,
        KEPT / f"short-{scenario.name}-{SEED}",
        short=True,
        expiry_slack_s=EXPIRY_SLACK_S,
    )
    if result.verdict == "SKIPPED":
        pytest.skip(f"chaos cannot be injected here: {result.why}")
    again = f"make chaos SCENARIO={scenario.name} SEED={SEED} ARGS=--short"
    assert result.verdict == "OK", f"{result.why}\nkept: {result.kept}\nagain: {again}"
