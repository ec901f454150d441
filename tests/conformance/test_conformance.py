"""The SDKs pass the cases, and the cases catch what they are there for."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from tests import golang
from tests.conformance.__main__ import main
from tests.conformance.cases import Case, read_cases
from tests.conformance.executors.broken import FAULTS
from tests.conformance.notation import Unknown, mismatches, substitute, to_bytes, to_wire
from tests.conformance.stage import Stage
from tests.conformance.suite import Suite, command_of, not_catching

# Of those that are played alone, the ones that take no restart of the server.
SHORT = {
    "superseded",
    "stale_fence",
    "connection_reset",
    "drain_gives_back_what_is_on_its_way",
}


async def failures(url: str, directory: Path, executor: str, cases: list[Case]) -> dict[str, str]:
    """Why cases failed, by name."""
    async with Stage(url, directory) as stage:
        results = await Suite(stage, command_of(executor), executor).play(cases)
    return {result.case.name: result.why for result in results if not result.passed}


@pytest.mark.timeout(300)
async def test_python_in_short(migrated_database_url: str, tmp_path: Path) -> None:
    cases = [case for case in read_cases() if not case.alone or case.name in SHORT]
    assert await failures(migrated_database_url, tmp_path, "python", cases) == {}


@pytest.mark.long
@pytest.mark.parametrize("executor", ["python", "go"])
async def test_an_sdk_passes(migrated_database_url: str, tmp_path: Path, executor: str) -> None:
    if executor == "go" and (why := golang.missing()):
        pytest.skip(why)
    assert await failures(migrated_database_url, tmp_path, executor, read_cases()) == {}


@pytest.mark.long
async def test_broken_executors_fail(migrated_database_url: str, tmp_path: Path) -> None:
    cases = read_cases()
    async with Stage(migrated_database_url, tmp_path) as stage:
        passed = {fault: await not_catching(stage, fault, cases) for fault in FAULTS}
    assert {fault: names for fault, names in passed.items() if names} == {}


def test_every_fault_is_caught_by_a_case_and_every_catch_is_a_fault() -> None:
    assert {fault for case in read_cases() for fault in case.catches} == set(FAULTS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: {title: t, steps: []}", "it has no steps"),
        ("a: {title: t, steps: [{dance: now}]}", "step 1 must be one of call, join"),
        ("a: {title: t, steps: [{open: gate, until: {}}]}", r"step 1 \(open\) has no until"),
        ("a: {title: t, steps: [{call: get, expect: {}, until: {}}]}", "two expectations"),
        ("a: {title: t, stops: []}", "stops"),
    ],
)
def test_what_is_no_case_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "cases.yaml").write_text(text)
    with pytest.raises(ValueError, match=says):
        read_cases(tmp_path)


@pytest.mark.parametrize("executor", ["no-such-program executor.rb", ""])
def test_an_executor_that_is_no_program_is_refused_before_anything_is_started(
    executor: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """How it showed: a PostgreSQL and a server were started, then it ended in a traceback."""
    with pytest.raises(typer.Exit) as exit_:
        main(executor=[executor])
    assert exit_.value.exit_code == 2
    assert f"no executor {executor!r}" in capsys.readouterr().err


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    for file in ("a.yaml", "b.yaml"):
        (tmp_path / file).write_text("same: {title: t, steps: [{open: gate}]}")
    with pytest.raises(ValueError, match="two cases are called same"):
        read_cases(tmp_path)


def test_variables_are_filled_in() -> None:
    variables = {"job": {"ids": ["x", "y"]}, "queue": "q"}
    assert substitute(["$job.ids.1", "${queue}.b", 3], variables) == ["y", "q.b", 3]
    assert substitute({"all": "$job.ids"}, variables) == {"all": ["x", "y"]}
    for path in ("$nothing", "$job.ids.2", "$queue.x", "${job.x}"):
        with pytest.raises(Unknown):
            substitute(path, variables)


def test_bytes_and_long_texts() -> None:
    assert to_wire({"payload": {"text": "é"}, "message": {"fill": "ab", "bytes": 3}}) == {
        "payload": "w6k=",
        "message": "aba",
    }
    with pytest.raises(ValueError, match="which bytes"):
        to_bytes({"text": "a", "more": 1})


@pytest.mark.parametrize(
    ("expected", "found", "differ"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, 0),
        ({"a": 1}, {"b": 1}, 1),
        ({"a": False}, {"a": 0}, 1),
        ({"a": None}, {"a": None}, 0),
        ({"a": {}}, {"a": {"b": 1}}, 1),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, 1),
        ({"a": [1]}, {"a": [1, 2]}, 1),
        ({"result": {"text": "x"}}, {"result": "eA=="}, 0),
        ({"result": {"text": "x"}}, {"result": "eQ=="}, 1),
        ({"result": {"text": "x"}}, {"result": None}, 1),
        ({"a": {"at_least": 2}}, {"a": 2}, 0),
        ({"a": {"more_than": 2}}, {"a": 2}, 1),
        ({"a": {"at_most": 2}}, {"a": None}, 1),
        ({"a": {"one_of": [1, 2]}}, {"a": 3}, 1),
        ({"a": {"contains": "b"}}, {"a": ["b"]}, 0),
        ({"a": {"from_now_s": [-5, 5]}}, {"a": 0}, 1),
    ],
)
def test_what_differs(expected: object, found: object, differ: int) -> None:
    assert len(mismatches(expected, found)) == differ
