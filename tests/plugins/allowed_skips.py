"""`--strict-skips`: a test that is skipped for a reason not in tests/allowed_skips.txt fails the run."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

ALLOWED = Path(__file__).parents[1] / "allowed_skips.txt"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips", action="store_true", help="fail for skips that are not allowed"
    )


def _patterns() -> list[str]:
    lines = (line.partition("  #")[0].strip() for line in ALLOWED.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    outcome = yield
    report = outcome.get_result()
    if (
        not item.config.getoption("--strict-skips")
        or not report.skipped
        or hasattr(report, "wasxfail")
    ):
        return
    reason = str(call.excinfo.value) if call.excinfo else ""
    if not any(fnmatch(reason, pattern) for pattern in _patterns()):
        report.outcome = "failed"
        report.longrepr = f"skipped for a reason that is not allowed: {reason}"
