"""Go and Python workers side by side under kill -9, in short; `make chaos SCENARIO=two_languages` is the whole."""

from __future__ import annotations

import pytest

from tests import golang
from tests.chaos.runner import run
from tests.chaos.scenarios import scenarios
from tests.chaos.test_short import EXPIRY_SLACK_S, KEPT, SEED


@pytest.mark.long
async def test_the_promise_holds_in_two_languages() -> None:
    if why := golang.missing():
        pytest.skip(why)
    one = scenarios()["two_languages"]
    place = KEPT / f"short-{one.name}-{SEED}"
    result = await run(one, SEED, place, short=True, expiry_slack_s=EXPIRY_SLACK_S)
    again = f"make chaos SCENARIO={one.name} SEED={SEED} ARGS=--short"
    assert result.verdict == "OK", f"{result.why}\nkept: {result.kept}\nagain: {again}"
